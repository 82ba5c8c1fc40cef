"""A range as YAML has it: {low: 1, high: 9, log: true} or {low: 1, high: 9, step: 2}."""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping

from reforge.search.dimension import Range
from reforge.spec.problem import KeyPath, Problem
from reforge.spec.tree import Node

RANGE_KEYS = ("low", "high", "log", "step")


def read_range(node: Node, path: KeyPath) -> tuple[Range | None, list[Problem]]:
    """The range that a mapping stands for, of integers where all its numbers are; or what is wrong with it."""
    numbers: dict[str, int | float] = {}
    problems = [*unknown_keys(node, path, RANGE_KEYS, "a range"), *_take_numbers(node, path, numbers)]
    log = _child(node, "log").value if node.child("log") else False
    if not isinstance(log, bool):
        problems.append(_wrong(node, path, "log", "log must be true or false", log))
    problems += _rules(node, path, numbers, log is True)
    if problems:
        return None, problems
    is_int = all(isinstance(number, int) for number in numbers.values())
    return Range(numbers["low"], numbers["high"], log is True, numbers.get("step"), is_int), []


def unknown_keys(node: Node, path: KeyPath, allowed: Collection[str], what: str) -> Iterator[Problem]:
    """A problem for each key of a mapping that is not allowed there."""
    for key, child in node.children():
        if key not in allowed:
            near = next(iter(difflib.get_close_matches(str(key), allowed, n=1)), None)
            rule = f"unknown key of {what}; its keys are {', '.join(allowed)}"
            yield Problem((*path, key), rule, nearest=near, place=child.key_place)


def _take_numbers(node: Node, path: KeyPath, numbers: dict[str, int | float]) -> Iterator[Problem]:
    for key in ("low", "high", "step"):
        child = node.child(key)
        value = child.value if child else None
        if value is None:
            if key != "step":
                rule = f"a range needs low and high; {key} is missing"
                yield Problem(path, rule, place=node.key_place or node.place)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            numbers[key] = value
        else:
            yield _wrong(node, path, key, f"{key} must be a finite number", _child(node, key).plain())


def _rules(node: Node, path: KeyPath, numbers: Mapping[str, int | float], log: bool) -> Iterator[Problem]:
    """What is wrong among the numbers of a range, each at its own line."""
    low, high, step = (numbers.get(key) for key in ("low", "high", "step"))
    ordered = low is not None and high is not None and low < high
    if low is not None and high is not None and not ordered:
        yield _wrong(node, path, "low", f"low must be below high ({high})", low)
    if log and low is not None and low <= 0:
        yield _wrong(node, path, "low", "low must be above 0 where log is true", low)
    if log and step is not None:
        yield _wrong(node, path, "step", "step must be left out where log is true", step)
    elif step is not None and step <= 0:
        yield _wrong(node, path, "step", "step must be above 0", step)
    elif ordered and step is not None and low is not None and high is not None:
        last = Range(low, high, step=step).last
        if not math.isclose(last, high, rel_tol=1e-9):
            rule = f"high must be low plus a number of steps: the last step below it is {last:g}"
            yield _wrong(node, path, "high", rule, high)


def _wrong(node: Node, path: KeyPath, key: str, rule: str, got: object) -> Problem:
    return Problem(path, rule, got, place=_child(node, key).place)


def _child(node: Node, key: str) -> Node:
    child = node.child(key)
    assert child is not None
    return child
