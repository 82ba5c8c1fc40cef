"""Trials that a user names, whole or in part, as parameters of a space."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reforge.search.dimension import Dimension, Range, freeze
from reforge.search.parameters import parameters, read
from reforge.search.space import Space
from reforge.spec.problem import Problem, show_value

Violated = Callable[[Mapping[str, Any]], Sequence[str]]  # what keeps an assignment from being trained


def parameters_of(point: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Optuna's parameters of a point {key path: value} without problems.

    What its parameters hang on is set so that they are active. Where it names some of the paths of a joint dimension,
    the first combination that has their values is taken.
    """
    return parameters(space, space.values_of(_with_conditions(point, space)))


def point_problems(points: Sequence[Mapping[str, Any]], space: Space, violated: Violated) -> Iterator[Problem]:
    """What is wrong with points_to_evaluate; paths are relative to it."""
    for index, point in enumerate(points):
        wrong = list(_wrong_values(point, space))
        yield from (Problem((index, *problem.path), problem.rule, problem.got, problem.nearest) for problem in wrong)
        assignment = None if wrong else whole(parameters_of(point, space), space)
        for why in violated(assignment) if assignment is not None else ():
            yield Problem((index,), f"cannot be trained: {why}")


def whole(stored: Mapping[str, Any], space: Space) -> dict[str, Any] | None:
    """The assignment of Optuna's parameters that leave no active dimension open, None of others."""
    chosen: dict[str, Any] = {}
    for dimension in space.dimensions:
        if dimension in space.active(chosen):
            if dimension.name not in stored:
                return None
            chosen[dimension.name] = read(dimension, stored[dimension.name])
    return space.assignment(chosen)


def _with_conditions(point: Mapping[str, Any], space: Space) -> dict[str, Any]:
    said = dict(point)
    for dimension in reversed(space.dimensions):  # each stands after what it hangs on
        if any(path in said for path in dimension.paths) and not _excluded(dimension, said):
            for path, allowed in dimension.when:
                said.setdefault(path, min(allowed, key=str))
    return said


def _wrong_values(point: Mapping[str, Any], space: Space) -> Iterator[Problem]:
    for path, value in point.items():
        named = [dimension for dimension in space.dimensions if path in dimension.paths]
        possible = [dimension for dimension in named if not _excluded(dimension, point)]
        if not named:
            paths = [path for dimension in space.dimensions for path in dimension.paths]
            nearest = difflib.get_close_matches(path, paths, n=1)
            yield Problem((path,), "is not searched", nearest=nearest[0] if nearest else None)
        elif not possible:
            yield Problem((path,), f"is searched only where {_conditions(named[0])}", value)
        elif not any(_matching(dimension, point) for dimension in possible):
            rule = " or ".join(dict.fromkeys(_domain_text(dimension, path) for dimension in possible))
            yield Problem((path,), f"must be {rule}", value)


def _excluded(dimension: Dimension, point: Mapping[str, Any]) -> bool:
    """Whether the point itself says that the dimension does not take part."""
    return any(path in point and freeze(point[path]) not in allowed for path, allowed in dimension.when)


def _matching(dimension: Dimension, point: Mapping[str, Any]) -> list[Any]:
    """The values of the dimension that agree with the point."""
    if len(dimension.paths) == 1:
        value = point[dimension.paths[0]]
        return [value] if dimension.domain.holds(value) else []
    return [value for value in dimension.domain.values if _agrees(dimension.settings(value), point)]


def _agrees(settings: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(freeze(point[path]) == freeze(value) for path, value in settings.items() if path in point)


def _conditions(dimension: Dimension) -> str:
    return " and ".join(f"{path} is {' or '.join(map(str, allowed))}" for path, allowed in dimension.when)


def _domain_text(dimension: Dimension, path: str) -> str:
    domain = dimension.domain
    if isinstance(domain, Range):
        steps = "" if domain.step is None else f" in steps of {domain.step:g}"
        return f"{'an integer' if domain.is_int else 'a number'} from {domain.low:g} to {domain.high:g}{steps}"
    if len(dimension.paths) == 1:
        return "one of " + ", ".join(domain.labels)
    values = dict.fromkeys(show_value(dimension.settings(value)[path]) for value in domain.values)
    return f"one of {', '.join(values)}, and fit {' and '.join(other for other in dimension.paths if other != path)}"
