"""JSON lines: one object a line."""

import json
from collections.abc import Iterator
from typing import Any

from reforge.corpora.reader import Reader


def json_records(reader: Reader) -> Iterator[dict[str, Any]]:
    """The objects of a file's lines; blank lines are no records, a line that is no JSON object is a bad record."""
    for line in reader.lines():
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            reader.bad("line that is no JSON", f"no JSON: {error}")
            continue
        if isinstance(record, dict):
            yield record
        else:
            reader.bad("line that is no JSON object", f"must be a JSON object, got {type(record).__name__}")


def text_of(record: dict[str, Any], column: str, reader: Reader) -> str | None:
    """The text in a record's `column`; a record without it is bad."""
    value = record.get(column)
    if isinstance(value, str):
        return value
    columns = ", ".join(record) or "none"
    reader.bad(f"record without a text {column!r}", f"must have a text {column!r}, has columns {columns}")
    return None
