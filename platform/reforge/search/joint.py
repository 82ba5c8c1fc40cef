"""Constraints that a draw hardly meets by chance become one joint choice of the combinations that meet them.

model.d_model: [512, 768]   model.num_heads: [8, 12]   model.d_model % model.num_heads == 0
    -> model.d_model*model.num_heads: 512*8, 768*8, 768*12
"""

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from reforge.search.constraints import Constraint
from reforge.search.dimension import Choice, Dimension
from reforge.search.expression import Lookup, Unsuitable
from reforge.spec.problem import Problem

MAX_CELLS = 100_000  # combinations that are looked at
MAX_CHOICES = 1_000  # combinations that a sampler can tell apart in a useful time

LookupOf = Callable[[dict[str, Any]], Lookup]


@dataclass(eq=False)
class _Group:
    dimensions: list[Dimension]
    constraints: list[Constraint] = field(default_factory=list)

    @property
    def num_cells(self) -> int:
        return math.prod(dimension.domain.size or 0 for dimension in self.dimensions)

    def with_all(self, others: Sequence["_Group"], order: Sequence[Dimension]) -> "_Group":
        members = {id(each) for group in (self, *others) for each in group.dimensions}
        constraints = [constraint for group in (*others, self) for constraint in group.constraints]
        return _Group([each for each in order if id(each) in members], constraints)


@dataclass(frozen=True)
class Joined:
    """Dimensions with the joint ones among them, the constraints that are left, and what cannot be met."""

    dimensions: tuple[Dimension, ...]
    constraints: tuple[Constraint, ...]
    problems: tuple[Problem, ...]


def join(
    dimensions: Sequence[Dimension],
    constraints: Sequence[Constraint],
    fixed_paths: Collection[str],
    lookup_of: LookupOf,
) -> Joined:
    """Make joint choices wherever finite dimensions of one branch are related by an equality or a divisibility.

    fixed_paths: those that mean the same in every draw
    lookup_of: from {key path: value} to what a job with these values has
    """
    groups: list[_Group] = []
    for constraint in constraints:
        members = _members(constraint, dimensions, fixed_paths)
        if constraint.expression.relates and members:
            met = [group for group in groups if any(each in group.dimensions for each in members)]
            group = _Group(members, [constraint]).with_all(met, dimensions)
            if group.num_cells <= MAX_CELLS:
                groups = [*(other for other in groups if other not in met), group]
    for group in groups:  # what else concerns them alone is met for nothing
        for constraint in constraints:
            inside = _members(constraint, dimensions, fixed_paths)
            if constraint not in group.constraints and inside and all(each in group.dimensions for each in inside):
                group.constraints.append(constraint)
    return _replace(dimensions, constraints, groups, lookup_of)


def _members(constraint: Constraint, dimensions: Sequence[Dimension], fixed_paths: Collection[str]) -> list[Dimension]:
    """The finite dimensions of one branch that a constraint is about; none where it is about anything else."""
    found: list[Dimension] = []
    for path in constraint.expression.paths:
        own = [each for each in dimensions if path in each.paths]
        if len(own) == 1:
            found += [each for each in own if each not in found]
        elif own or path not in fixed_paths:
            return []
    same_branch = all(each.when == found[0].when for each in found)
    finite = all((each.domain.size or MAX_CELLS + 1) <= MAX_CELLS for each in found)
    return found if same_branch and finite else []


def _replace(
    dimensions: Sequence[Dimension], constraints: Sequence[Constraint], groups: Sequence[_Group], lookup_of: LookupOf
) -> Joined:
    result, left, problems = list(dimensions), list(constraints), []
    for group in groups:
        try:
            feasible = _feasible(group, lookup_of)
        except Unsuitable as error:
            problems.append(group.constraints[0].problem(str(error)))
            continue
        if not feasible:
            problems.append(_unmet(group, lookup_of))
        elif len(feasible) <= MAX_CHOICES:
            at = result.index(group.dimensions[0])
            result = [each for each in result if each not in group.dimensions]
            result.insert(at, _joint(group.dimensions, feasible))
            left = [constraint for constraint in left if constraint not in group.constraints]
    return Joined(tuple(result), tuple(left), tuple(problems))


def _feasible(group: _Group, lookup_of: LookupOf) -> list[tuple[Any, ...]]:
    """Every combination that meets all of the group's constraints."""
    domains = [each.domain.values for each in group.dimensions]
    paths = [each.paths[0] for each in group.dimensions]
    found = []
    for values in itertools.product(*domains):
        lookup = lookup_of(dict(zip(paths, values, strict=True)))
        if all(constraint.holds(lookup) for constraint in group.constraints):
            found.append(values)
    return found


def _unmet(group: _Group, lookup_of: LookupOf) -> Problem:
    names = ", ".join(each.name for each in group.dimensions)
    for constraint in group.constraints:
        alone = _Group(group.dimensions, [constraint])
        if not _feasible(alone, lookup_of):
            return constraint.problem(f"nothing satisfies it: none of the {group.num_cells:,} combinations of {names}")
    *others, last = group.constraints
    texts = " and ".join(repr(other.text) for other in others)
    return last.problem(f"nothing satisfies it together with {texts}: none of the {group.num_cells:,} combinations")


def _joint(dimensions: Sequence[Dimension], feasible: list[tuple[Any, ...]]) -> Dimension:
    first = dimensions[0]
    if len(dimensions) == 1:
        return Dimension(first.name, Choice(tuple(value for (value,) in feasible)), first.when, first.paths)
    paths = tuple(each.paths[0] for each in dimensions)
    return Dimension("*".join(each.name for each in dimensions), Choice(tuple(feasible)), first.when, paths)
