"""Plain text files: each file one document, each block of lines between blank lines, or each line."""

from collections.abc import Iterator
from typing import Literal
from unicodedata import normalize

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.encoding import Encoding, has_byte_lines
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.records import clean

# A document is tokenized in one go, which takes a hundred times its size.
_DOCUMENT_CHARACTERS = 1 << 24


class Text(FileCorpus):
    """Any text. Nothing is cleaned but Unicode's normal form (NFC) and the space at a document's two ends.

    documents_by: what is one document: a whole `file`, what stands between two `blank_line`s, or a `line`
    encoding: of all files; cp949 reads EUC-KR as well
    """

    kind: Literal["text"] = "text"
    documents_by: Literal["file", "blank_line", "line"] = "file"
    encoding: Encoding = "utf-8"
    reads_fast = True

    def cuttable(self, whole: Slice) -> bool:
        return self.documents_by != "file" and has_byte_lines(self.encoding)

    def read_file(self, reader: Reader) -> Iterator[Document]:
        if self.documents_by == "line":
            yield from self._lines(reader)
            return
        blocks = self._whole_file(reader) if self.documents_by == "file" else self._blocks(reader)
        for name, lines in blocks:
            text = clean("\n".join(lines))
            if text:
                reader.tally.keep(text)
                yield Document(name, text)
            else:
                reader.tally.drop("empty")

    def _lines(self, reader: Reader) -> Iterator[Document]:
        name, keep = f"{reader.name}: byte ", reader.tally.keep
        for line in reader.lines(encoding=self.encoding):
            if text := normalize("NFC", line).strip():
                keep(text)
                yield Document(f"{name}{reader.offset}", text)

    def _whole_file(self, reader: Reader) -> Iterator[tuple[str, list[str]]]:
        block = _Block(reader)
        for line in reader.lines(encoding=self.encoding):
            if not block.add(line):
                return
        if block.is_whole():
            yield reader.name, block.lines

    def _blocks(self, reader: Reader) -> Iterator[tuple[str, list[str]]]:
        block = _Block(reader)
        for line in reader.lines(_is_blank, self.encoding):
            if line and not line.isspace():
                block.add(line)
                continue
            if block.is_whole() and block.lines:
                yield f"{reader.name}: byte {block.offset}", block.lines
            block = _Block(reader)
        if block.is_whole() and block.lines:
            yield f"{reader.name}: byte {block.offset}", block.lines


class _Block:
    """The lines of one document as far as they were read.

    offset: where it begins
    """

    def __init__(self, reader: Reader) -> None:
        self.lines: list[str] = []
        self.offset = 0
        self._reader = reader
        self._characters = 0
        self._num_bad = reader.num_bad

    def add(self, line: str) -> bool:
        """Take one more line; False where the document is too long, which is said or counted once."""
        if self._characters > _DOCUMENT_CHARACTERS:
            return False
        if not self.lines:
            self.offset = self._reader.offset
        self.lines.append(line)
        self._characters += len(line)
        if self._characters <= _DOCUMENT_CHARACTERS:
            return True
        self.lines.clear()
        self._reader.bad(
            "document too long",
            f"a document of more than {_DOCUMENT_CHARACTERS >> 20} million characters; set documents_by to blank_line "
            "or line",
        )
        return False

    def is_whole(self) -> bool:
        """Whether no line of it was bad; a document with gaps is dropped and counted."""
        if self._reader.num_bad == self._num_bad:
            return True
        if self.lines:
            self._reader.tally.drop("document with lines that cannot be read")
        return False


def _is_blank(line: str) -> bool:
    return not line or line.isspace()
