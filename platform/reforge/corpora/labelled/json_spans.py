"""Entities as stretches of a text, in JSON: lines, a list, or NIKL's documents, whichever the file holds.

lines or a list     {"text": ..., "entities": [{"start": 0, "end": 3, "label": "PS"}]}
as spaCy has it     {"text": ..., "entities": [[0, 3, "PS"]]}, or [text, {"entities": [[0, 3, "PS"]]}]
NIKL ([NS]XNE*)     {"document": [{"sentence": [{"id": ..., "form": ..., "NE": [{"form", "label", "begin", "end"}]}]}]}
"""

from collections.abc import Iterator
from typing import Any, Literal

from reforge.corpora.encoding import Encoding
from reforge.corpora.labelled import entity_spans
from reforge.corpora.labelled.entity_records import Keys, Record, entity_records
from reforge.corpora.labelled.entity_spans import EntitySpan
from reforge.corpora.labelled.example import TaggedExample
from reforge.corpora.labelled.json_file import no_list
from reforge.corpora.labelled.reader import LabelledFiles
from reforge.corpora.reader import Reader
from reforge.corpora.records import Name, text_of, value_at
from reforge.corpora.tally import Tally
from reforge.spec.problem import show_value


class JsonSpans(LabelledFiles):
    """Texts with entities. Ends are exclusive; an entity that holds its own text (`form`) must stand where it says.

    text, entities: keys of a record; `text` may be nested, `doc.text`
    start, end, label: keys of an entity; [start, end, label] in this order needs none. NIKL's files have keys of their
        own, which these do not change
    units: `characters`; or `words`, between white space and around punctuation, which are cut where an entity begins or
        ends within one: a scorer then sees words that no text to be predicted has
    overlaps: `fail` makes a text bad whose entities overlap, `longest` keeps the longest ones and counts the others
    encoding: of all files
    """

    kind: Literal["json_spans"] = "json_spans"
    text: Name = "text"
    entities: Name = "entities"
    start: Name = "start"
    end: Name = "end"
    label: Name = "label"
    units: Literal["characters", "words"] = "characters"
    overlaps: Literal["fail", "longest"] = "fail"
    encoding: Encoding = "utf-8"
    gives = "tags"
    endings = (".json", ".jsonl", ".ndjson")

    def read_file(self, reader: Reader, labelled: bool) -> Iterator[TaggedExample]:
        keys = Keys(self.text, self.entities, self.start, self.end, self.label)
        for record in entity_records(reader, keys, self.encoding):
            text = text_of(record.value, record.keys.text, record.place)
            if text is not None and not text.strip():
                record.place.bad("empty text", f"must have a text {record.keys.text!r}, it is empty")
            elif text is not None:
                yield from self._examples(text, record, reader, labelled)

    def _examples(self, text: str, record: Record, reader: Reader, labelled: bool) -> Iterator[TaggedExample]:
        if not labelled:
            units = entity_spans.characters(text) if self.units == "characters" else entity_spans.words(text)
            yield TaggedExample(record.key, text, units, None)
            return
        found = _entities(record, text, reader.tally)
        apart = None if found is None else self._apart(found, record, reader)
        if apart is not None:
            units = self._units(text, apart, reader)
            yield TaggedExample(record.key, text, units, entity_spans.tags_at(units, apart))

    def _apart(self, entities: list[EntitySpan], record: Record, reader: Reader) -> list[EntitySpan] | None:
        """The entities without overlaps, in order; None where the record is bad by them."""
        if self.overlaps == "longest":
            kept = entity_spans.longest_apart(entities)
            reader.tally.fix("entity left out that a longer one overlaps", len(entities) - len(kept))
            return kept
        if pair := entity_spans.overlapping(entities):
            rule = "entities must not overlap (overlaps: longest keeps the longest)"
            record.place.bad("entities that overlap", f"{rule}, got {pair[0]} and {pair[1]}")
            return None
        return entities

    def _units(self, text: str, entities: list[EntitySpan], reader: Reader) -> tuple[entity_spans.Unit, ...]:
        if self.units == "characters":
            return entity_spans.characters(text)
        cuts = {at for entity in entities for at in (entity.start, entity.end)}
        units = entity_spans.words(text, cuts)
        reader.tally.fix("word cut where an entity begins or ends", len(units) - len(entity_spans.words(text)))
        return units


def _entities(record: Record, text: str, tally: Tally) -> list[EntitySpan] | None:
    """A record's entities, each once and in order; None where one is bad."""
    values = value_at(record.value, record.keys.entities)
    if not isinstance(values, list):
        record.place.bad(f"no list {record.keys.entities!r}", no_list(record.value, record.keys.entities))
        return None
    found = set[EntitySpan]()
    for value in values:
        entity = _entity(value, record.keys)
        if fault := _fault(value, entity, text, record.keys):
            record.place.bad(*fault)
            return None
        assert entity is not None
        found.add(trimmed := entity_spans.trimmed(entity, text))
        tally.fix("space at an entity's end left out of it", trimmed != entity)
    return sorted(found, key=lambda entity: (entity.start, entity.end, entity.label))


def _entity(value: Any, keys: Keys) -> EntitySpan | None:
    """The entity that a value spells, wherever in the text it may lie; None where it spells none."""
    match value:
        case [start, end, label]:
            pass
        case {keys.start: start, keys.end: end, keys.label: label}:
            pass
        case _:
            return None
    is_spelt = type(start) is int and type(end) is int and isinstance(label, str) and label.strip()
    return EntitySpan(label.strip(), start, end) if is_spelt else None


def _fault(value: Any, entity: EntitySpan | None, text: str, keys: Keys) -> tuple[str, str] | None:
    """Reason and message about what is no entity of the text."""
    if entity is None:
        rule = f"an entity must have whole numbers {keys.start!r} and {keys.end!r} and a text {keys.label!r}"
        return "entity without a place or label", f"{rule}, got {show_value(value)}"
    if not 0 <= entity.start < entity.end <= len(text):
        return "entity outside its text", f"an entity must lie within the {len(text)} characters, got {entity}"
    stands = text[entity.start : entity.end]
    form = value.get("form") if isinstance(value, dict) else None
    if isinstance(form, str) and form != stands:
        message = f"{entity} must be {show_value(form)}, there is {show_value(stands)}"
        return "entity that is not at its place", message
    return None if stands.strip() else ("entity of nothing but space", f"an entity must hold a character, got {entity}")
