"""Plain text files: each file one document, each block of lines between blank lines, or each line."""

import unicodedata
from collections.abc import Iterator
from typing import Literal

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader


class Text(FileCorpus):
    """Any UTF-8 text. Nothing is cleaned but Unicode's normal form (NFC) and the space at a document's two ends."""

    kind: Literal["text"] = "text"
    documents_by: Literal["file", "blank_line", "line"] = "file"
    reads_fast = True

    def cuttable(self, whole: Slice) -> bool:
        return self.documents_by != "file"

    def read_file(self, reader: Reader) -> Iterator[Document]:
        for place, lines in self._blocks(reader):
            text = unicodedata.normalize("NFC", "\n".join(lines)).strip()
            if text:
                reader.tally.keep(text)
                yield Document(f"{reader.name}{place}", text)
            else:
                reader.tally.drop("empty")

    def _blocks(self, reader: Reader) -> Iterator[tuple[str, list[str]]]:
        if self.documents_by == "file":
            yield "", list(reader.lines())
        elif self.documents_by == "line":
            yield from ((f": byte {reader.offset}", [line]) for line in reader.lines() if line.strip())
        else:
            yield from _between_blank_lines(reader)


def _between_blank_lines(reader: Reader) -> Iterator[tuple[str, list[str]]]:
    block: list[str] = []
    start = 0
    for line in reader.lines(cut_before=_is_blank):
        if _is_blank(line):
            if block:
                yield f": byte {start}", block
            block = []
        else:
            start = start if block else reader.offset
            block.append(line)
    if block:
        yield f": byte {start}", block


def _is_blank(line: str) -> bool:
    return not line or line.isspace()
