"""From entities, which are stretches of a text, to units and their tags.

text, entities -> without overlaps -> units, cut where an entity begins or ends -> tags
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from reforge.corpora.labelled.iob import tags_of

Unit = tuple[int, int]


class EntitySpan(NamedTuple):
    """An entity: its type, and [start, end) in characters of the text."""

    label: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.label} [{self.start}, {self.end})"


def trimmed(entity: EntitySpan, text: str) -> EntitySpan:
    """The entity without white space at its two ends; nothing is left of one that holds no other character."""
    content = text[entity.start : entity.end]
    start = entity.start + len(content) - len(content.lstrip())
    return entity._replace(start=start, end=start + len(content.strip()))


def overlapping(entities: Iterable[EntitySpan]) -> tuple[EntitySpan, EntitySpan] | None:
    """The first two entities that share a character; None where all stand apart."""
    in_order = sorted(entities, key=lambda entity: (entity.start, entity.end))
    return next(((one, other) for one, other in pairwise(in_order) if other.start < one.end), None)


def longest_apart(entities: Iterable[EntitySpan]) -> list[EntitySpan]:
    """Entities that stand apart, in order: of those that overlap the longest, of equally long ones the first."""
    kept: list[EntitySpan] = []
    for entity in sorted(entities, key=lambda entity: (entity.start - entity.end, entity.start)):
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept, key=lambda entity: entity.start)


def characters(text: str) -> tuple[Unit, ...]:
    """A unit for each character, spaces as well."""
    return tuple((index, index + 1) for index in range(len(text)))


def words(text: str, cuts: Collection[int] = ()) -> tuple[Unit, ...]:
    """A unit for each word between white space, for each sign of punctuation by itself; cut before each of `cuts`."""
    units, begun = list[Unit](), -1
    for index, character in enumerate(text):
        is_word = not character.isspace() and unicodedata.category(character)[0] not in "PS"
        if begun >= 0 and (not is_word or index in cuts):
            units.append((begun, index))
            begun = -1
        if is_word and begun < 0:
            begun = index
        elif not is_word and not character.isspace():
            units.append((index, index + 1))
    return (*units, (begun, len(text))) if begun >= 0 else tuple(units)


def tags_at(units: Sequence[Unit], entities: Iterable[EntitySpan]) -> tuple[str, ...]:
    """The IOB2 tags of units of which none is partly in an entity."""
    starts = [start for start, _ in units]
    placed = [(entity.label, bisect_left(starts, entity.start), bisect_left(starts, entity.end)) for entity in entities]
    return tags_of(placed, len(units))
