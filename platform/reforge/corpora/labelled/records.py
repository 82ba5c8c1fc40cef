"""Records with named, maybe nested columns (JSON, parquet, rows of `datasets`) as labelled texts.

(key, place, record) --value at each column--> Cells --> TextExample
"""

from abc import ABC
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from reforge.corpora.labelled.table import Cells, Table, no_column
from reforge.corpora.records import BadPlace, Name, has_column, value_at


class Record(NamedTuple):
    """A record, and where it stands.

    key: for an example without a name of its own, "train.jsonl:12"
    """

    key: str
    place: BadPlace
    columns: Mapping[str, Any]


class RecordTable(Table, ABC):
    """Labelled texts in records; `text`, `pair`, `label` and `id` may be nested: `labels.real-label`."""

    text: Name = "text"
    pair: Name | None = None
    label: Name | None = "label"
    id: Name | None = None

    def names(self, labelled: bool) -> list[str]:
        """The columns that every record must have."""
        return [name for name in (self.text, self.pair, self.label if labelled else None) if name is not None]

    def cells(self, records: Iterable[Record], labelled: bool) -> Iterator[Cells]:
        """What the records have for examples; null is an empty text, a record without one of the columns is bad."""
        names = self.names(labelled)
        for record in records:
            lacking = next((name for name in names if not has_column(record.columns, name)), None)
            if lacking is None:
                yield self._picked(record, labelled)
            else:
                message = no_column(lacking, _all_names(record.columns))
                record.place.bad(f"record without a column {lacking!r}", message)

    def _picked(self, record: Record, labelled: bool) -> Cells:
        columns = (self.text, self.pair, self.label if labelled else None, self.id)
        found = [None if name is None else value_at(record.columns, name) for name in columns]
        return Cells(record.key, record.place, *found)


def _all_names(record: Mapping[str, Any]) -> Iterator[str]:
    """The columns of a record, and those within them as a.b."""
    for name, value in record.items():
        yield name
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in value)
