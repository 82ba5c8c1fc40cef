"""The records of a JSON file of texts with entities, whichever layout it has.

lines or a list     {"text": ..., "entities": [...]}; a list may hold spaCy's pairs: [text, {"entities": [...]}]
NIKL ([NS]XNE*)     {"document": [{"sentence": [{"id": ..., "form": ..., "NE": [...]}]}]}
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json

from reforge.corpora.encoding import Encoding
from reforge.corpora.labelled.json_file import MISSING, Element, list_at, whole_value
from reforge.corpora.reader import Reader
from reforge.corpora.records import BadPlace, json_records
from reforge.spec.problem import show_value


class Keys(NamedTuple):
    """Where a record has its parts."""

    text: str
    entities: str
    start: str
    end: str
    label: str


class Record(NamedTuple):
    """A text with entities as its file has it."""

    key: str
    place: BadPlace
    value: dict[str, Any]
    keys: Keys


_NIKL = Keys("form", "NE", "begin", "end", "label")


def entity_records(reader: Reader, keys: Keys, encoding: Encoding) -> Iterator[Record]:
    """Stream the records of a file; those of NIKL's files have NIKL's keys, all others `keys`."""
    if _has_records_as_lines(reader.first_line(encoding)):
        for value in json_records(reader, encoding):
            yield Record(f"{reader.name}:{reader.line_number()}", reader, value, keys)
        return
    whole = whole_value(reader, encoding)
    if _is_nikl(whole):
        yield from _nikl_records(whole, reader)
    elif whole is not MISSING:
        yield from _listed_records(whole if isinstance(whole, list) else [whole], reader, keys)


def _has_records_as_lines(first: str) -> bool:
    """Whether the first line is a record by itself; one of NIKL's files may be a single line as well."""
    try:
        value = from_json(first)
    except ValueError:
        return False
    return isinstance(value, dict) and not _is_nikl(value)


def _is_nikl(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("document"), list)


def _listed_records(values: list[Any], reader: Reader, keys: Keys) -> Iterator[Record]:
    for number, value in enumerate(values, 1):
        match value:
            case [str(text), {**others}]:
                value = {**others, keys.text: text}
        place = Element(reader, f"record {number}")
        if isinstance(value, dict):
            yield Record(f"{reader.name}: record {number}", place, value, keys)
        else:
            place.bad("record that is no object", f"must be an object, got {show_value(value)}")


def _nikl_records(whole: dict[str, Any], reader: Reader) -> Iterator[Record]:
    """The sentences of a file of NIKL's; empty ones, which its transcripts have, are counted and left out."""
    for number, document in enumerate(list_at(whole, "document", Element(reader, "the whole")), 1):
        for index, sentence in enumerate(list_at(document, "sentence", Element(reader, f"document {number}")), 1):
            key = str(sentence.get("id", "")) if isinstance(sentence, dict) else ""
            name = key or f"document {number}, sentence {index}"
            place = Element(reader, name if not key else f"sentence {key}")
            if not isinstance(sentence, dict):
                place.bad("sentence that is no object", f"must be an object, got {show_value(sentence)}")
            elif sentence.get("form") == "":
                reader.tally.drop("empty sentence")
            else:
                yield Record(key or f"{reader.name}: {name}", place, sentence, _NIKL)
