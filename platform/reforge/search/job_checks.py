"""What a space says, held against the job's own options: names, types and rules, before any job is run."""

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from reforge.search.conditions import holds
from reforge.search.constraints import Constraint
from reforge.search.dimension import Choice, Dimension, freeze
from reforge.search.option_paths import option_paths
from reforge.search.reading import Entry
from reforge.search.space import Space
from reforge.spec.diagnosis import diagnose
from reforge.spec.part import Part
from reforge.spec.problem import Problem, SpecError
from reforge.spec.source import Source
from reforge.spec.tree import Node, nested
from reforge.spec.validation import Remembered, validate

_MAX_BRANCHES = 50  # in which one value is tried
_NUM_TRIES = 64
_MAX_VALUES = 200  # of one dimension whose rules are tried
_SET_BY_THE_SEARCH = ("kind", "name", "run")

ProblemsOf = Callable[[Mapping[str, Any]], dict[str, Problem]]  # {key path: value} -> what is wrong, by its text


def type_problems(job: type[Part], base: Source, entries: Sequence[Entry]) -> list[Problem]:
    """What is wrong with names and types: of every value, in every branch and beside every kind it may meet."""
    found = {}
    bare = {entry.keys for entry in entries if isinstance(entry.node.value, list)}
    for trees in [[], *_contexts(entries)] if not entries else _contexts(entries):
        source = base.overlaid(trees)
        for problem in diagnose(job, source).problems:
            placed = replace(problem, place=problem.place or source.place(problem.path))
            if problem.rule.startswith("must be a list of") and problem.path in bare:
                placed = replace(placed, rule=f"{problem.rule} (a list is a choice of its items; [[a, b]] of one list)")
            found[str(placed)] = placed
    for entry in entries:
        if entry.keys[0] in _SET_BY_THE_SEARCH:
            rule = f"{entry.keys[0]} is nothing to search: every trial gets its own"
            problem = Problem(entry.keys, rule, place=entry.node.key_place or entry.node.place)
            found[str(problem)] = problem
    return list(found.values())


def _contexts(entries: Sequence[Entry]) -> Iterator[list[Node]]:
    """For each value of each entry, trees of whole assignments with it; everything else has its first value."""
    for entry in entries:
        wanted = [[(path, value) for value in values] for path, values in entry.when]
        wanted += [
            [(kind.path, freeze(value)) for value, _ in kind.samples()]
            for kind in entries
            if kind.keys[-1] == "kind" and kind.keys[:-1] == entry.keys[: len(kind.keys) - 1] and kind is not entry
            if kind.path not in dict(entry.when) and isinstance(kind.domain, Choice)
        ]
        branches = [dict(branch) for branch in itertools.islice(itertools.product(*wanted), _MAX_BRANCHES)]
        for (_, node), branch in itertools.product(entry.samples(), branches):
            yield _whole(entries, entry, node, branch)


def _whole(entries: Sequence[Entry], tried: Entry, tried_node: Node, branch: Mapping[str, Any]) -> list[Node]:
    settings: dict[str, Any] = {}
    trees = []
    for entry in entries:
        if not holds(entry.when, settings):
            continue
        nodes = [node for _, node in entry.samples()]
        wanted = [node for node in nodes if entry.path in branch and freeze(node.plain()) == branch[entry.path]]
        node = tried_node if entry is tried else [*wanted, *nodes][0]
        settings[entry.path] = node.plain()
        trees.append(nested(entry.keys, replace(node, key_place=entry.node.key_place or node.place)))
    return trees


def rule_problems(space: Space, problems_of: ProblemsOf) -> list[Problem]:
    """What is wrong beyond types: with all jobs of a space, or with all that have a certain value.

    A combination that a job's own rules forbid is no mistake of the space: such a draw is infeasible.
    problems_of: what is wrong with the job of an assignment
    """
    random = Random(0)
    found: dict[str, Problem] = {}
    cache: dict[object, dict[str, Problem]] = {}
    for dimension, values in _targets(space.dimensions):
        common: dict[str, Problem] | None = None
        for _ in range(_NUM_TRIES):
            given = {dimension.name: random.choice(values)} if values else {}
            assignment = space.assignment(space.draw(random, given))
            if space.violated(assignment):
                continue
            key = frozenset((path, freeze(value)) for path, value in assignment.items())
            if key not in cache:
                cache[key] = problems_of(assignment)
            problems = cache[key]
            common = problems if common is None else {text: common[text] for text in common.keys() & problems.keys()}
            if not common.keys() - found.keys():
                break
        found |= common or {}
    if not found and cache and all(cache.values()):
        example = next(text for problems in cache.values() for text in problems)
        rule = f"none of {len(cache)} jobs drawn from it is right; one of them: {example}"
        return [Problem(("space",), rule)]
    return list(found.values())


def _targets(dimensions: Iterable[Dimension]) -> Iterator[tuple[Dimension, list[Any]]]:
    """Each dimension with all of its values that give one of its paths one certain value; a range as a whole."""
    for dimension in dimensions:
        if not isinstance(dimension.domain, Choice):
            yield dimension, []
            continue
        groups: dict[object, list[Any]] = {}
        for value in dimension.domain.values:
            for path, item in dimension.settings(value).items():
                groups.setdefault((path, freeze(item)), []).append(value)
        yield from ((dimension, group) for group in itertools.islice(groups.values(), _MAX_VALUES))


def validator(
    job: type[Part], base: Source, space: Space, checks: Sequence[Callable[[Any], Iterable[Problem]]]
) -> ProblemsOf:
    """What `validate` finds in the job of an assignment, by text."""

    remembered: Remembered = {}

    def found(assignment: Mapping[str, Any]) -> dict[str, Problem]:
        try:
            validate(job, base.overlaid(space.overrides(assignment)), checks, remembered)
        except SpecError as error:
            return {str(problem): problem for problem in error.problems}
        return {}

    return found


def unknown_paths(constraints: Iterable[Constraint], job: type[Part]) -> list[tuple[Constraint, Problem]]:
    """Every constraint with a path that no job of this type can have, with what is wrong with it."""
    known = sorted(option_paths(job))
    found = []
    for constraint in constraints:
        for path in constraint.expression.paths:
            if path not in known:
                near = next(iter(difflib.get_close_matches(path, known, n=1)), None)
                hint = "" if "." in path or near else "; text stands in quotes"
                found.append((constraint, constraint.problem(f"{path} is no option of the job{hint}", near)))
    return found
