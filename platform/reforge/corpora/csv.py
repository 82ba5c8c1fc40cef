"""Tables of text: comma- or tab-separated values with the text in one or several of the columns."""

import csv
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.encoding import Encoding, has_byte_lines
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.records import Name, clean, nearest
from reforge.corpora.tally import Tally
from reforge.spec import Problem

Column = Name | Annotated[int, Field(ge=1)]
_FIELD_CHARACTERS = 1 << 24


class Csv(FileCorpus):
    """The texts of tables; nothing is cleaned but Unicode's normal form (NFC) and the space at a text's two ends.

    column: name of the column or its number from 1 on, or a list of them whose texts are joined, one a line
    header: whether the first line of every file names the columns
    delimiter: what stands between the columns; null: the tab in .tsv files and where the first line holds one, else ","
    quoting: `minimal` takes "..." for one field that may hold delimiters, lines and doubled quotes; with `none` quotes
        mean nothing and a record is a line
    encoding: of all files; cp949 reads EUC-KR as well
    """

    kind: Literal["csv"] = "csv"
    column: Column | Annotated[tuple[Column, ...], Field(min_length=1)] = "text"
    header: bool = True
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    encoding: Encoding = "utf-8"
    endings = tuple(
        f".{name}{packed}" for name in ("csv", "tsv", "tab", "txt") for packed in ("", ".gz", ".bz2", ".xz", ".zst")
    )

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        names = [column for column in self._columns if isinstance(column, str)]
        if not self.header and names:
            yield Problem(("column",), "must be a column's number where there is no header", got=names[0])
        if self.delimiter is not None and self.delimiter in '"\r\n':
            yield Problem(("delimiter",), "must be no quote and no line's end", got=self.delimiter)

    @property
    def _columns(self) -> tuple[str | int, ...]:
        return self.column if isinstance(self.column, tuple) else (self.column,)

    def cuttable(self, whole: Slice) -> bool:
        return self.quoting == "none" and has_byte_lines(self.encoding)

    def read_file(self, reader: Reader) -> Iterator[Document]:
        head = Reader(reader.file, reader.name, Tally(), reader.on_bad_record)
        first = next(head.lines(encoding=self.encoding), None)
        if first is None and not head.num_bad:
            return
        delimiter = self.delimiter or likely_delimiter(reader.name, first or "")
        rows = (split_rows if self.quoting == "none" else parsed_rows)(reader, delimiter, self.encoding)
        header = [] if head.num_bad else (first or "").split(delimiter)
        if self.header and reader.start == 0 and not head.num_bad:
            header = next(rows, [])
        picks = self._picks(header, reader)
        for row in rows if picks else ():
            yield from self._document(row, picks or [], len(header) if self.header else 0, reader)

    def _document(self, row: list[str], picks: list[int], num_columns: int, reader: Reader) -> Iterator[Document]:
        if num_columns and len(row) != num_columns:
            reader.bad("record of another length", f"must have {num_columns} columns as the header, has {len(row)}")
        elif len(row) <= max(picks):
            reader.bad("record of another length", f"must have a column {max(picks) + 1}, has {len(row)} columns")
        elif text := clean("\n".join(filter(None, (row[pick] for pick in picks)))):
            reader.tally.keep(text)
            yield Document(f"{reader.name}: byte {reader.offset}", text)
        else:
            reader.tally.drop("empty")

    def _picks(self, header: list[str], reader: Reader) -> list[int] | None:
        """Index of each column; None where the file lacks one."""
        names = [name.strip().strip('"') for name in header]
        missing = next((name for name in self._columns if isinstance(name, str) and name not in names), None)
        if missing is None:
            return [column - 1 if isinstance(column, int) else names.index(column) for column in self._columns]
        if reader.on_bad_record == "fail" or not reader.start:  # all ranges find it missing: the first one counts it
            has = f"has {', '.join(names) or 'none that can be read'}{nearest(missing, names)}"
            reader.bad("file without a column", f"{reader.file}: must have a column {missing!r}, {has}", placed=True)
        return None


def split_rows(reader: Reader, delimiter: str, encoding: Encoding) -> Iterator[list[str]]:
    """The rows of a table in which quotes mean nothing; empty lines are none, but the first line always is one."""
    for line in reader.lines(encoding=encoding):
        if line or reader.offset == 0:
            yield line.split(delimiter)


def parsed_rows(
    reader: Reader, delimiter: str, encoding: Encoding, unquoted: str = "set quoting to none"
) -> Iterator[list[str]]:
    """The rows of a table after RFC 4180; what is no CSV is a bad record, empty lines are none.

    unquoted: what to do where quotes mean nothing, for the message
    """
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_CHARACTERS))  # Python's own is 131,072
    lines = (f"{line}\n" for line in reader.lines(encoding=encoding))
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        num_bad, num_lines = reader.num_bad, rows.line_num
        try:
            row = next(rows, None)
        except csv.Error as error:
            reader.bad("record that is no CSV", f"no CSV: {error}. Where quotes mean nothing, {unquoted}")
            continue
        if row is None:
            return
        if reader.num_bad > num_bad and rows.line_num > num_lines + 1:
            reader.tally.drop("record with lines that cannot be read")
        elif row:
            yield row


def likely_delimiter(name: str, first: str) -> str:
    """What separates the columns of the table `name` whose first line is `first`: a tab or a comma."""
    return "\t" if ".tsv" in name.lower() or "\t" in first else ","
