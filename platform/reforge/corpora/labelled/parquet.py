"""Parquet files, as data sets are handed out today."""

from collections.abc import Iterator
from typing import Literal

from reforge.corpora.labelled.example import TextExample
from reforge.corpora.labelled.reader import LabelledFiles
from reforge.corpora.labelled.records import Record, RecordTable
from reforge.corpora.parquet import parquet_records
from reforge.corpora.reader import Reader


class Parquet(RecordTable, LabelledFiles):
    """Any table in a parquet file; examples are named by their row, from 1 on."""

    kind: Literal["parquet"] = "parquet"
    endings = (".parquet",)

    def read_file(self, reader: Reader, labelled: bool) -> Iterator[TextExample]:
        yield from self.examples(self.cells(self._records(reader, labelled), labelled), labelled, reader.tally)

    def _records(self, reader: Reader, labelled: bool) -> Iterator[Record]:
        for row, record in parquet_records(reader, self.names(labelled)):
            yield Record(f"{reader.name}: row {row.number}", row, record)
