"""A search space that has been read and checked: what can be drawn from it, and the job that a draw stands for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from reforge.search.conditions import holds
from reforge.search.constraints import Constraint, Fill, JobValues
from reforge.search.dimension import Choice, Dimension, Range, When, freeze
from reforge.search.expression import Unsuitable
from reforge.spec.schema import Schema
from reforge.spec.tree import Node, nested, written


@dataclass(frozen=True)
class Fixed:
    """A constant of the space: the only value of a path, where the conditions hold."""

    path: str
    value: Any
    when: When = ()


@dataclass(frozen=True, eq=False)
class Space:
    """What a search may draw.

    dimensions: each after those that its conditions speak of
    constraints: those that a draw must still be checked for; what joint dimensions took care of is not among them
    constants: what every draw sets besides
    base: the base spec as plain mappings
    places: where in the spec a path is spoken of
    schema, fill: where the values of paths come from that neither a draw nor the base spec sets
    """

    dimensions: tuple[Dimension, ...]
    constraints: tuple[Constraint, ...] = ()
    constants: tuple[Fixed, ...] = ()
    base: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    schema: Schema | None = None
    fill: Fill | None = None

    def assignment(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """{dimension's name: value} as {key path: value}, joint ones taken apart, constants added."""
        return self.with_constants(self._settings(values))

    def with_constants(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The values of key paths with the constants of the branches that they choose."""
        return {**settings, **{fixed.path: fixed.value for fixed in self.constants if holds(fixed.when, settings)}}

    def active(self, values: Mapping[str, Any]) -> list[Dimension]:
        """The dimensions whose conditions hold, as far as the values so far say."""
        settings = self._settings(values)
        return [dimension for dimension in self.dimensions if holds(dimension.when, settings)]

    def violated(self, assignment: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> list[str]:
        """The texts of the constraints that do not hold.

        base: where paths are looked up that the assignment lacks, in place of the base spec: a whole job's dump
        """
        lookup = self.lookup(assignment, base)
        return [constraint.text for constraint in self.constraints if not _is_met(constraint, lookup)]

    def lookup(self, assignment: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> JobValues:
        """What a job with this assignment has at its key paths."""
        if base is not None:
            return JobValues(assignment, base, self.schema)
        return JobValues(assignment, self.base, self.schema, self.fill)

    def overrides(self, assignment: Mapping[str, Any]) -> list[Node]:
        """The assignment as trees for `Source.overlaid`; each value keeps its type and the place of its path."""
        place = "the search space"
        return [
            nested(path.split("."), written(value, self.places.get(path, place), self.places.get(path, place)))
            for path, value in assignment.items()
        ]

    def draw(self, random: Random, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Values for all dimensions that are active together, each drawn evenly; constraints may be violated.

        given: values of some dimensions; what they hang on is then drawn so that they are active
        """
        given = given or {}
        wanted = [condition for each in self.dimensions if each.name in given for condition in each.when]
        values: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for dimension in self.dimensions:
            if holds(dimension.when, settings):
                drawn = given[dimension.name] if dimension.name in given else _drawn(dimension, wanted, random)
                values[dimension.name] = drawn
                settings |= dimension.settings(drawn)
        return values

    def draws(self, count: int, seed: int) -> Iterator[dict[str, Any]]:
        """Assignments drawn evenly; the same for the same seed."""
        random = Random(seed)
        for _ in range(count):
            yield self.assignment(self.draw(random))

    def size(self) -> int | None:
        """How many different draws there are; None where a range is continuous."""
        if any(dimension.domain.size is None for dimension in self.dimensions):
            return None
        return count_cells(self.dimensions)

    def values_of(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """{key path: value}, of some or all paths, as {dimension's name: value} of the dimensions that it decides.

        A joint dimension takes the first of its values that has what the point says. Paths of other branches or none
        of the space's are left out.
        """
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            said = {path: freeze(point[path]) for path in dimension.paths if path in point}
            if not said or not holds(dimension.when, self._settings(values)):
                continue
            candidates = [point[dimension.paths[0]]] if len(dimension.paths) == 1 else _values(dimension)
            for value in candidates:
                settings = {path: freeze(item) for path, item in dimension.settings(value).items()}
                if dimension.domain.holds(value) and said.items() <= settings.items():
                    values[dimension.name] = value
                    break
        return values

    def _settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.name in values and holds(dimension.when, found):
                found |= dimension.settings(values[dimension.name])
        return found


def count_cells(dimensions: Sequence[Dimension]) -> int:
    """How many different draws finite dimensions have."""
    return _count(dimensions, {}, {})


def cells(dimensions: Sequence[Dimension], settings: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every combination that finite dimensions allow, as {key path: value}."""
    settings = dict(settings or {})
    for index, dimension in enumerate(dimensions):
        if holds(dimension.when, settings):
            for value in _values(dimension):
                yield from cells(dimensions[index + 1 :], settings | dimension.settings(value))
            return
    yield settings


def _count(rest: Sequence[Dimension], settings: Mapping[str, Any], known: dict[object, int]) -> int:
    """How many draws the rest of the dimensions have; branches that leave the same rest are counted once."""
    conditions = {condition for dimension in rest for condition in dimension.when}
    met = frozenset(condition for condition in conditions if holds((condition,), settings))
    key = (len(rest), met)
    if key not in known:
        known[key] = _count_branches(rest, settings, known)
    return known[key]


def _count_branches(rest: Sequence[Dimension], settings: Mapping[str, Any], known: dict[object, int]) -> int:
    if not rest:
        return 1
    first, *others = rest
    if not holds(first.when, settings):
        return _count(others, settings, known)
    deciding = {path for dimension in others for path, _ in dimension.when}
    if deciding.isdisjoint(first.paths):
        assert first.domain.size is not None
        return first.domain.size * _count(others, settings, known)
    return sum(_count(others, {**settings, **first.settings(value)}, known) for value in _values(first))


def _values(dimension: Dimension) -> Sequence[Any]:
    values: Sequence[Any] = dimension.domain.values
    return values


def _drawn(dimension: Dimension, wanted: Sequence[tuple[str, frozenset[Any]]], random: Random) -> Any:
    wanted = [condition for condition in wanted if condition[0] in dimension.paths]
    if isinstance(dimension.domain, Range) or not wanted:
        return dimension.domain.draw(random)
    values = [value for value in dimension.domain.values if holds(tuple(wanted), dimension.settings(value))]
    return Choice(tuple(values) or dimension.domain.values).draw(random)


def _is_met(constraint: Constraint, lookup: JobValues) -> bool:
    try:
        return constraint.holds(lookup)
    except Unsuitable:  # a value of a type that it was not written for
        return False
