"""Plain text files: each file one document, or each block of lines between blank lines."""

import unicodedata
from collections.abc import Iterator
from typing import Literal

from reforge.corpora.corpus import Document
from reforge.corpora.files import FileCorpus, text_lines
from reforge.corpora.tally import Tally


class Text(FileCorpus):
    """Any UTF-8 text. Nothing is cleaned but Unicode's normal form (NFC) and the space at a document's two ends."""

    kind: Literal["text"] = "text"
    documents_by: Literal["file", "blank_line"] = "file"

    def documents(self, tally: Tally) -> Iterator[Document]:
        for name, file in self.named_files(tally):
            for place, lines in self._blocks(text_lines(file)):
                text = unicodedata.normalize("NFC", "\n".join(lines)).strip()
                if text:
                    tally.keep(text)
                    yield Document(f"{name}{place}", text)
                else:
                    tally.drop("empty")

    def _blocks(self, lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
        if self.documents_by == "file":
            yield "", list(lines)
            return
        block: list[str] = []
        number = 0
        for number, line in enumerate(lines, start=1):
            if line.strip():
                block.append(line)
            elif block:
                yield f": line {number - len(block)}", block
                block = []
        if block:
            yield f": line {number - len(block) + 1}", block
