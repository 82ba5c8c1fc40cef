"""Whether the constraints that are left to be checked after a draw can be met at all."""

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

from reforge.search.constraints import Constraint
from reforge.search.expression import NoValue, Unsuitable
from reforge.search.joint import MAX_CELLS
from reforge.search.space import Space, cells, count_cells
from reforge.spec.problem import Problem

_NUM_DRAWS = 200
_MANY_DRAWS = 5_000


def unmet(space: Space) -> list[Problem]:
    """A problem for each constraint that nothing satisfies, and one where nothing satisfies all of them.

    Finite spaces are gone through as a whole, of others so many draws.
    """
    problems = [problem for constraint in space.constraints if (problem := _unmet_alone(space, constraint))]
    if problems or not space.constraints:
        return problems
    paths = {path for constraint in space.constraints for path in constraint.expression.paths}
    together = itertools.chain(space.draws(_MANY_DRAWS, seed=0), _list_cells(space, paths) or ())
    if any(not space.violated(assignment) for assignment in together):
        return []
    *others, last = space.constraints
    texts = " and ".join(repr(other.text) for other in others)
    return [last.problem(f"nothing satisfies it together with {texts}, in {_MANY_DRAWS:,} draws")]


def _unmet_alone(space: Space, constraint: Constraint) -> Problem | None:
    tried = 0
    missing: set[str] = set()
    listed = _list_cells(space, set(constraint.expression.paths))
    for assignment in _candidates(space, constraint, listed):
        try:
            if constraint.expression.holds(space.lookup(assignment)):
                return _unsuitable(space, constraint)
            tried += 1
        except NoValue as error:
            missing.add(str(error))
        except Unsuitable as error:
            return constraint.problem(str(error))
    if not tried:
        return constraint.problem(f"no job of this space has {' and '.join(sorted(missing))}")
    if listed is not None:
        return constraint.problem("nothing satisfies it: false for every combination of what it is about")
    hint = "; lists or steps, few enough to be gone through one by one, would find what does"
    return constraint.problem(f"none of {tried:,} draws satisfies it{hint}")


def _unsuitable(space: Space, constraint: Constraint) -> Problem | None:
    """The problem that some values are of a type that the constraint cannot work with."""
    for assignment in space.draws(_NUM_DRAWS, seed=0):
        try:
            constraint.holds(space.lookup(assignment))
        except Unsuitable as error:
            return constraint.problem(str(error))
    return None


def _candidates(
    space: Space, constraint: Constraint, listed: Iterator[dict[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    """Draws, first from the branches that the constraint is about; then every combination, or many draws more."""
    random = Random(0)
    for dimension in space.dimensions:
        if not set(dimension.paths).isdisjoint(constraint.expression.paths):
            for _ in range(20):
                yield space.assignment(space.draw(random, {dimension.name: dimension.domain.draw(random)}))
    yield from space.draws(_NUM_DRAWS, seed=0)
    yield from space.draws(_MANY_DRAWS, seed=1) if listed is None else listed


def _list_cells(space: Space, paths: set[str]) -> Iterator[dict[str, Any]] | None:
    """Every combination of what decides these paths; None where there are too many."""
    while True:
        involved = [each for each in space.dimensions if any(_decides(own, paths) for own in each.paths)]
        wider = paths | {path for each in involved for path, _ in each.when}
        if wider == paths:
            break
        paths = wider
    if any(each.domain.size is None for each in involved) or count_cells(involved) > MAX_CELLS:
        return None
    return (space.with_constants(settings) for settings in cells(involved))


def _decides(own: str, paths: set[str]) -> bool:
    """Whether a dimension's path is one of these, holds one of these, or chooses the kind of what holds it."""
    above = own.removesuffix("kind") if own.endswith(".kind") else f"{own}."
    return own in paths or any(path.startswith(above) for path in paths)
