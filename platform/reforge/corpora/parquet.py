"""Parquet files: tables by columns, as data sets are handed out today."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.place import remote_errors
from reforge.corpora.reader import Reader
from reforge.corpora.records import Columns, Row, clean, column_names, nearest, text_of
from reforge.corpora.streams import DamagedError
from reforge.spec import UserError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 128
_READ_BYTES = 1 << 20


class Parquet(FileCorpus):
    """The texts of a table's rows; nothing is cleaned but Unicode's normal form (NFC) and the space at the two ends.

    column: name of the column, `meta.body` for one in a nested one, or a list whose texts are joined, one a line
    """

    kind: Literal["parquet"] = "parquet"
    column: Columns = "text"
    reads_fast = True
    endings = (".parquet",)

    def cuttable(self, whole: Slice) -> bool:
        return True

    def read_file(self, reader: Reader) -> Iterator[Document]:
        for row, record in parquet_records(reader, column_names(self.column)):
            found = text_of(record, self.column, row)
            if found is None:
                continue
            if text := clean(found):
                reader.tally.keep(text)
                yield Document(f"{reader.name}: row {row.number}", text)
            else:
                reader.tally.drop("empty")


def parquet_records(reader: Reader, columns: Sequence[str]) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The rows of the row groups whose first byte is in the reader's range, as records with at least `columns`."""
    try:
        with _opened(reader) as table:
            names = _top_columns(table, columns, reader)
            yield from _rows(table, names, reader) if names else ()
    except DamagedError as error:
        # All ranges find the table of contents at the file's end damaged: the first one counts it.
        if reader.on_bad_record == "fail" or not reader.start:
            reader.bad("rest of a damaged file", str(error), placed=True)


@contextmanager
def _opened(reader: Reader) -> Iterator["ParquetFile"]:
    from pyarrow.parquet import ParquetFile  # takes half a second, and few corpora need it

    try:
        with remote_errors(reader.file):
            handle = reader.file.open("rb")
    except OSError as error:
        raise UserError(f"{reader.file} cannot be read: {error.strerror}") from error
    with handle:
        with _damage(reader):
            table = ParquetFile(handle, pre_buffer=False, buffer_size=_READ_BYTES)
        yield table


@contextmanager
def _damage(reader: Reader) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        with remote_errors(reader.file, unless=(ArrowException, OSError, UnicodeError)):
            yield
    except (ArrowException, OSError, UnicodeError) as error:
        if getattr(error, "errno", None) is not None:
            raise UserError(f"{reader.file} cannot be read: {error}") from error
        raise DamagedError(f"{reader.file} is no whole .parquet file: {str(error).rstrip('.')}") from error


def _top_columns(table: "ParquetFile", columns: Sequence[str], reader: Reader) -> list[str] | None:
    names = table.schema_arrow.names
    found = [name if name in names else name.partition(".")[0] for name in columns]
    for name in found:
        if name not in names:
            has = f"has {', '.join(names)}{nearest(name, names)}"
            if reader.on_bad_record == "fail" or not reader.start:
                reader.bad("file without a column", f"{reader.file}: must have a column {name!r}, {has}", placed=True)
            return None
    return list(dict.fromkeys(found))


def _rows(table: "ParquetFile", names: list[str], reader: Reader) -> Iterator[tuple[Row, dict[str, Any]]]:
    number = 0
    for index in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(index)
        first = number
        number += group.num_rows
        if reader.start <= _first_byte(group) and (reader.stop is None or _first_byte(group) < reader.stop):
            records = _records(table, index, names, reader)
            yield from ((Row(reader, first + at), record) for at, record in enumerate(records, 1))


def _records(table: "ParquetFile", group: int, names: list[str], reader: Reader) -> Iterator[dict[str, Any]]:
    try:
        with _damage(reader):
            batches = table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names, use_threads=False)
        while True:
            with _damage(reader):
                batch = next(batches, None)
                records = batch.to_pylist() if batch is not None else None
            if records is None:
                return
            yield from records
    except DamagedError as error:
        reader.bad("rest of a damaged row group", str(error), placed=True)


def _first_byte(group: Any) -> int:
    columns = (group.column(index) for index in range(group.num_columns))
    starts = (
        column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
        for column in columns
    )
    return int(min(starts, default=0))
