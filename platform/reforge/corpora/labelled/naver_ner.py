"""The two layouts in which sets tagged by eojeol (words between spaces) are passed around, after Naver's NER set.

sentences   words TAB tags, both with spaces between them; a sentence a line
rows        number TAB eojeol TAB tag; an eojeol a line, numbers from 1 on, a blank line between sentences
"""

from collections.abc import Iterator
from itertools import chain
from typing import Literal, NamedTuple

from reforge.corpora.labelled.tagged import Line, Sentence, TaggedFiles, bad_line, blocks, joined
from reforge.corpora.reader import Reader

Layout = Literal["sentences", "rows"]


class _Words(NamedTuple):
    """A sentence's words and tags and the line of each word."""

    words: list[str]
    tags: list[str]
    lines: list[int]


class NaverNer(TaggedFiles):
    """Eojeol with tags such as PER_B or B-PER, "-" or "O" outside. The text is the eojeol with a space between them.

    layout: `sentences` (words TAB tags), `rows` (number TAB eojeol TAB tag), or `auto`: as the first line is
    """

    kind: Literal["naver_ner"] = "naver_ner"
    layout: Literal["auto", "sentences", "rows"] = "auto"
    endings = (".txt", ".tsv", ".conll", ".ner")

    def sentences(self, reader: Reader, labelled: bool) -> Iterator[Sentence]:
        found = blocks(reader, self.encoding)
        first = next(found, None)
        if first is None:
            return
        layout = _layout(first[0].text, labelled) if self.layout == "auto" else self.layout
        parse = _from_rows if layout == "rows" else _from_lines
        for words in chain.from_iterable(parse(block, reader, labelled) for block in chain([first], found)):
            text, units = joined(words.words, " ")
            tags = tuple(words.tags) if labelled else None
            yield Sentence(f"{reader.name}:{words.lines[0]}", text, units, tags, words.lines)


def _layout(line: str, labelled: bool) -> Layout:
    cells = line.split("\t")
    return "rows" if cells[0].strip().isdecimal() and len(cells) >= (3 if labelled else 2) else "sentences"


def _from_lines(block: list[Line], reader: Reader, labelled: bool) -> Iterator[_Words]:
    for number, line in block:
        cells = line.split("\t")
        words, tags = (_split(cell) for cell in (cells[0], cells[-1]))
        if labelled and len(cells) != 2:
            bad_line(reader, number, "line of another layout", f"must be words, a tab, tags; has {len(cells) - 1} tabs")
        elif labelled and len(words) != len(tags):
            message = f"must have as many tags as words, has {len(words)} words and {len(tags)} tags"
            bad_line(reader, number, "words and tags of different counts", message)
        elif not words:
            bad_line(reader, number, "sentence without words", "must have words before the tab")
        else:
            yield _Words(words, tags, [number] * len(words))


def _from_rows(block: list[Line], reader: Reader, labelled: bool) -> Iterator[_Words]:
    """The sentences of a block: one, and one more wherever the numbers begin again."""
    begins = [index for index, line in enumerate(block) if index == 0 or line.text.startswith("1\t")]
    for begin, end in zip(begins, [*begins[1:], len(block)], strict=True):
        rows = [(line.number, [cell.strip(" ") for cell in line.text.split("\t")]) for line in block[begin:end]]
        num_columns = 3 if labelled else 2
        bad = next((row for row in rows if len(row[1]) < num_columns or not all(row[1][:num_columns])), None)
        if bad is None:
            numbers, cells = zip(*rows, strict=True)
            yield _Words([cell[1] for cell in cells], [cell[-1] for cell in cells], list(numbers))
        else:
            wanted = "a number, an eojeol and a tag" if labelled else "a number and an eojeol"
            message = f"must be {wanted} with tabs between them, got {' | '.join(bad[1])}"
            bad_line(reader, bad[0], "line of another layout", message)


def _split(cell: str) -> list[str]:
    """The words of a cell; a no-break space is part of a word."""
    return [word for word in cell.split(" ") if word]
