"""Tables in text files, with the columns of an example picked by their names in the header or by their numbers.

file --> rows (lists of text) --header--> indices of the columns --> Cells --> TextExample
"""

from abc import abstractmethod
from collections.abc import Iterator
from operator import itemgetter

from reforge.corpora.encoding import Encoding
from reforge.corpora.labelled.example import TextExample
from reforge.corpora.labelled.reader import LabelledFiles
from reforge.corpora.labelled.table import Cells, Column, Table, no_column
from reforge.corpora.reader import Reader
from reforge.spec import Problem, UserError

Rows = Iterator[list[str]]
_NONE = -1  # the index of the None that is appended to every row


class Delimited(Table, LabelledFiles):
    """Labelled texts in the columns of a text file; `text`, `pair`, `label` and `id` are names or numbers from 1 on.

    header: whether the first line of every file names the columns
    encoding: of all files; cp949 reads EUC-KR as well
    """

    header: bool = True
    encoding: Encoding = "utf-8"

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if not self.header:
            for name in ("text", "pair", "label", "id"):
                if isinstance(column := getattr(self, name), str):
                    yield Problem((name,), "must be a column's number where there is no header", got=column)

    @abstractmethod
    def rows(self, reader: Reader) -> Rows:
        """The rows of one file, the header's as well."""

    def read_file(self, reader: Reader, labelled: bool) -> Iterator[TextExample]:
        return self.examples(self._cells(reader, labelled), labelled, reader.tally)

    def _cells(self, reader: Reader, labelled: bool) -> Iterator[Cells]:
        rows = self.rows(reader)
        header = next(rows, None) if self.header else []
        if header is None:
            reader.tally.drop("empty file")
            return
        names = [name.strip() for name in header]
        pick = itemgetter(*self._picks(names, reader, labelled))
        num_least = self._num_least(names, labelled)
        line = 0
        for row in rows:
            last, line = line, reader.line_number()
            if len(row) < num_least or (len(row) > len(names) > 0 and any(row[len(names) :])):
                self._bad_length(row, names, num_least, reader)
                continue
            first = line if line == last + 1 else line - _lines_within(row)
            yield Cells(f"{reader.name}:{first}", reader, *pick([*row, None]))

    def _picks(self, names: list[str], reader: Reader, labelled: bool) -> list[int]:
        text, pair, label, key = self.columns(labelled)
        if isinstance(key, str) and key not in names:
            key = None
        return [_NONE if column is None else _index(column, names, reader) for column in (text, pair, label, key)]

    def _num_least(self, names: list[str], labelled: bool) -> int:
        """Columns that a row must have: the header's but for nameless ones at its end, or up to the last one picked."""
        while names and not names[-1]:
            names = names[:-1]
        return max(len(names), *(column for column in self.columns(labelled) if isinstance(column, int)), 1)

    def _bad_length(self, row: list[str], names: list[str], num_least: int, reader: Reader) -> None:
        rule = f"must have {num_least} columns as the header" if names else f"must have {num_least} columns or more"
        reader.bad("record of another length", f"{rule}, has {len(row)}")


def _index(column: Column, names: list[str], reader: Reader) -> int:
    if isinstance(column, int):
        if names and column > len(names):
            raise UserError(f"{reader.file}: there is no column {column}, the header has {len(names)}")
        return column - 1
    if column not in names:
        raise UserError(f"{reader.file}: {no_column(column, names)}")
    if names.count(column) > 1:
        numbers = " and ".join(str(at) for at, name in enumerate(names, 1) if name == column)
        raise UserError(f"{reader.file}: the columns {numbers} are both called {column!r}: give the number of one")
    return names.index(column)


def _lines_within(row: list[str]) -> int:
    """How many lines before its last one a record begins."""
    return sum(cell.count("\n") for cell in row)
