"""Tab-separated values as data sets are handed out: a record is a line, and quotes mean nothing."""

from typing import Literal

from reforge.corpora.csv import split_rows
from reforge.corpora.labelled.delimited import Delimited, Rows
from reforge.corpora.reader import Reader


class TabSeparated(Delimited):
    """Labelled texts in a table whose columns are parted by tabs; a line may end in CR LF."""

    endings = (".tsv", ".tab", ".txt")

    def rows(self, reader: Reader) -> Rows:
        return split_rows(reader, "\t", self.encoding)


class Tsv(TabSeparated):
    """Any table whose columns are parted by tabs, without quoting."""

    kind: Literal["tsv"] = "tsv"
