"""Labelled sets whose file is one JSON value: all of it in memory, as such sets are small."""

from typing import Any, NamedTuple

from pydantic_core import from_json

from reforge.corpora.encoding import Encoding
from reforge.corpora.reader import Reader
from reforge.corpora.records import BadPlace, nearest

MISSING = object()


class Element(NamedTuple):
    """A part of such a file, named in messages by what it is: "question 6548850-0-0"."""

    reader: Reader
    name: str

    def place(self) -> str:
        return f"{self.reader.file}: {self.name}"

    def bad(self, reason: str, message: str) -> None:
        """`Reader.bad`, at this place."""
        self.reader.bad(reason, f"{self.place()}: {message}", placed=True)


def whole_value(reader: Reader, encoding: Encoding) -> Any:
    """The value that a file is; MISSING for a file without any, and where it is no JSON and `reader` may skip it."""
    # Line by line: so a byte order mark, another encoding and damaged content are what they are to every reader.
    text = "\n".join(reader.lines(encoding=encoding))
    if not text or text.isspace():
        return MISSING
    try:
        return from_json(text)
    except ValueError as error:
        what, _, at = str(error).rpartition(" at line ")
        line, _, column = at.partition(" column ")
        message = f"{reader.file}:{line}: no JSON: {what} at column {column}"
        reader.bad("file that is no JSON", message, placed=True)
        return MISSING


def list_at(record: Any, key: str, place: BadPlace) -> list[Any]:
    """The list under `key`; where there is none the record is bad, and the list empty."""
    found = record.get(key) if isinstance(record, dict) else None
    if isinstance(found, list):
        return found
    place.bad(f"record without a list {key!r}", no_list(record, key))
    return []


def no_list(record: Any, key: str) -> str:
    """The message for a value that has no list under `key`."""
    if not isinstance(record, dict):
        return f"must be an object with a list {key!r}, it is of type {type(record).__name__}"
    return f"must have a list {key!r}, has {', '.join(map(str, record)) or 'nothing'}{nearest(key, map(str, record))}"
