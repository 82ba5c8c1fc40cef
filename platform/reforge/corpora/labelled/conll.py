"""CoNLL columns: a token a line, its tag in another column, a blank line between sentences.

-DOCSTART- -X- O O            the begin of a document: no sentence

# id 7                        a comment
Ada    NNP  I-NP  B-PER
sings  VBZ  I-VP  O
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from reforge.corpora.labelled.tagged import Line, Sentence, TaggedFiles, bad_line, blocks, joined
from reforge.corpora.reader import Reader
from reforge.spec import Problem

_DOCUMENT = "-DOCSTART-"
# No str.split(): a no-break or an ideographic space can stand within a token.
_SPACE = re.compile(r"[ \t]+")


class Conll(TaggedFiles):
    """Tokens in columns. The text is the tokens with a space between them, and a token is a unit.

    A line with another number of columns than the file's first token has, or without a token, is a bad record, and its
    sentence is left out. A token of nothing but zero-width characters stays a token.

    token_column, tag_column: number of the column, from 1 on, or from the last one, -1, backwards
    separator: of the columns; `auto` takes the tab where the first token's line has one, else spaces and tabs
    join: what stands between two tokens in the text
    comments: leave out lines that begin with "#" before a sentence's first token. One that has exactly the columns of
        a token, as a hashtag's line has, is a token all the same
    """

    kind: Literal["conll"] = "conll"
    token_column: int = 1
    tag_column: int = -1
    separator: Literal["auto", "tab", "space"] = "auto"
    join: str = " "
    comments: bool = True
    endings = (".conll", ".iob", ".iob2", ".bio", ".txt", ".tsv")

    def rules(self) -> Iterator[Problem]:
        for name in ("token_column", "tag_column"):
            if getattr(self, name) == 0:
                yield Problem((name,), "must be a column's number, from 1 on or from -1 backwards", got=0)
        if self.token_column == self.tag_column:
            yield Problem(("tag_column",), "must be another column than token_column", got=self.tag_column)

    def sentences(self, reader: Reader, labelled: bool) -> Iterator[Sentence]:
        found = list(blocks(reader, self.encoding))
        if not found:
            return
        table = self._table([line for block in found for line in block])
        for block in found:
            if tokens := self._tokens(block, table):
                yield from self._sentence(tokens, table, reader, labelled)

    def _table(self, lines: list[Line]) -> "_Table":
        """The columns of the first line that is certainly a token's."""
        first = next((line for line in lines if not line.text.startswith((_DOCUMENT, "#"))), lines[0])
        is_tabbed = self.separator == "tab" or (self.separator == "auto" and "\t" in first.text)
        return _Table(is_tabbed, len(_columns(first.text, is_tabbed)), first.number)

    def _tokens(self, block: list[Line], table: "_Table") -> list[Line]:
        """The lines of a block without the documents' begins and the comments that stand before its first token."""
        for index, line in enumerate(block):
            is_comment = self.comments and line.text.startswith("#") and not table.fits(line.text)
            if not (is_comment or line.text.startswith(_DOCUMENT)):
                return block[index:]
        return []

    def _sentence(self, lines: list[Line], table: "_Table", reader: Reader, labelled: bool) -> Iterator[Sentence]:
        rows = [_columns(line.text, table.is_tabbed) for line in lines]
        for line, row in zip(lines, rows, strict=True):
            if fault := self._fault(row, table, labelled):
                bad_line(reader, line.number, *fault)
                return
        token, tag = (_index(column, table.width) or 0 for column in (self.token_column, self.tag_column))
        text, units = joined((row[token] for row in rows), self.join)
        tags = tuple(row[tag] for row in rows) if labelled else None
        yield Sentence(f"{reader.name}:{lines[0].number}", text, units, tags, [line.number for line in lines])

    def _fault(self, row: list[str], table: "_Table", labelled: bool) -> tuple[str, str] | None:
        """Reason and message about a row that is none."""
        if len(row) != table.width:
            message = f"must have {table.width} columns as line {table.first_line} has, has {len(row)}"
            return "line with another number of columns", f"{message}: {' | '.join(row)}"
        token, tag = (_index(column, len(row)) for column in (self.token_column, self.tag_column))
        if token is None or (labelled and (tag is None or tag == token)):
            wanted = f"a token in column {self.token_column}" + (f", a tag in {self.tag_column}" if labelled else "")
            return "line without the columns", f"must have {wanted}, has {len(row)} column" + "s" * (len(row) > 1)
        return None if row[token] else ("line without a token", "must have a token, its column is empty")


class _Table(NamedTuple):
    """How a file's columns are set apart, how many they are, and the line that says so."""

    is_tabbed: bool
    width: int
    first_line: int

    def fits(self, line: str) -> bool:
        return len(_columns(line, self.is_tabbed)) == self.width


def _columns(line: str, is_tabbed: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if is_tabbed else _SPACE.split(line.strip(" \t"))


def _index(column: int, width: int) -> int | None:
    """The index from 0 on of a column that is counted from 1 on or from -1 backwards; None where there is none."""
    index = column + width if column < 0 else column - 1
    return index if 0 <= index < width else None
