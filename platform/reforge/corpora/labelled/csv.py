"""Comma-separated values after RFC 4180: fields in double quotes may hold commas, lines and doubled quotes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from reforge.corpora.csv import likely_delimiter, parsed_rows
from reforge.corpora.labelled.delimited import Delimited, Rows
from reforge.corpora.reader import Reader
from reforge.spec import Problem


class Csv(Delimited):
    """Any table with quoting.

    delimiter: what stands between the columns; null: the tab in .tsv files and where the first line holds one, else ","
    """

    kind: Literal["csv"] = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    endings = (".csv", ".tsv", ".tab", ".txt")

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.delimiter is not None and self.delimiter in '"\r\n':
            yield Problem(("delimiter",), "must be no quote and no line's end", got=self.delimiter)

    def rows(self, reader: Reader) -> Rows:
        delimiter = self.delimiter or likely_delimiter(reader.name, reader.first_line(self.encoding))
        return parsed_rows(reader, delimiter, self.encoding, "take kind: tsv")
