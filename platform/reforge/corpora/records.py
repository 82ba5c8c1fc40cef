"""Records with named columns: JSON lines, rows of tables; and the text in their columns."""

import difflib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import Field
from pydantic_core import from_json

from reforge.corpora.encoding import Encoding
from reforge.corpora.reader import Reader

Name = Annotated[str, Field(min_length=1)]
# `text`, `meta.body` within a nested record, or several whose texts are joined by a line's end.
Columns = Name | Annotated[tuple[Name, ...], Field(min_length=1)]
_MISSING = object()


class BadPlace(Protocol):
    """Somewhere that a record can be bad at: a Reader, or a row."""

    def bad(self, reason: str, message: str) -> None:
        """Raise UserError with the place and `message`, or count one dropped record by `reason`."""

    def place(self) -> str:
        """The place as messages begin with it."""


class Row(NamedTuple):
    """A row of a table, to be named in messages by its number from 1 on."""

    reader: Reader
    number: int

    def bad(self, reason: str, message: str) -> None:
        self.reader.bad(reason, f"{self.place()}: {message}", placed=True)

    def place(self) -> str:
        return f"{self.reader.file}: row {self.number}"


def column_names(columns: Columns) -> tuple[str, ...]:
    """The columns that a text is made of."""
    return (columns,) if isinstance(columns, str) else columns


def json_records(reader: Reader, encoding: Encoding = "utf-8") -> Iterator[dict[str, Any]]:
    """The objects of a file's lines; blank lines are no records, a line that is no JSON object is a bad record."""
    as_bytes = encoding in ("utf-8", "utf-16")
    for raw in reader.raw_lines(encoding=encoding):
        if not raw or raw.isspace():
            continue
        line = raw if as_bytes else reader.decoded(raw)
        if line is None:
            continue
        try:
            record = from_json(line, cache_strings="keys")
        except ValueError as error:
            if reader.decoded(raw) is not None:
                reader.bad("line that is no JSON", f"no JSON: {str(error).replace(' at line 1 column', ' at column')}")
            continue
        if isinstance(record, dict):
            yield record
        else:
            reader.bad("line that is no JSON object", f"must be a JSON object, got {type(record).__name__}")


def text_of(record: Mapping[str, Any], column: Columns, place: BadPlace) -> str | None:
    """The text in a record's columns; null is an empty text, a record without a column or with no text in it is bad."""
    if isinstance(column, str):
        value = record.get(column)
        return value if isinstance(value, str) else _text_at(record, column, place)
    texts = [_text_at(record, name, place) for name in column]
    found = [text for text in texts if text is not None]
    return "\n".join(filter(None, found)) if len(found) == len(texts) else None


def value_at(record: Mapping[str, Any], column: str) -> Any:
    """What stands under `column`, "a.b" being b within a; None where nothing does."""
    value = _find(record, column)
    return None if value is _MISSING else value


def has_column(record: Mapping[str, Any], column: str) -> bool:
    """Whether anything, be it null, stands under `column`, "a.b" being b within a."""
    return _find(record, column) is not _MISSING


def nearest(name: str, names: Iterable[str]) -> str:
    """How a message names what was probably meant: "; did you mean text?", "" where nothing is near."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def clean(text: str) -> str:
    """The text in Unicode's normal form NFC, without the space at its two ends."""
    if text.isascii():
        return text.strip()
    if "\n" not in text:
        return unicodedata.normalize("NFC", text).strip()
    # Line by line: one character that needs work makes a long text take ten times as long.
    return "\n".join([unicodedata.normalize("NFC", line) for line in text.split("\n")]).strip()


def _text_at(record: Mapping[str, Any], column: str, place: BadPlace) -> str | None:
    value = _find(record, column)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if value is _MISSING:
        names = ", ".join(record) or "none"
        message = f"must have a text {column!r}, has columns {names}{nearest(column, record)}"
    else:
        message = f"must have a text {column!r}, it is of type {type(value).__name__}"
    place.bad(f"record without a text {column!r}", message)
    return None


def _find(record: Mapping[str, Any], column: str) -> Any:
    if column in record:
        return record[column]
    value: Any = record
    for key in column.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value
