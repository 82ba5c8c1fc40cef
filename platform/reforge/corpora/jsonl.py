"""JSON lines: one object a line, with the text in one or several of its columns."""

from collections.abc import Iterator
from typing import Literal

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.encoding import Encoding, has_byte_lines
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.records import Columns, clean, json_records, text_of


class Jsonl(FileCorpus):
    """The texts of JSON lines; nothing is cleaned but Unicode's normal form (NFC) and the space at the two ends.

    column: name of the column, `meta.body` for one in a nested object, or a list whose texts are joined, one a line
    encoding: of all files; cp949 reads EUC-KR as well
    """

    kind: Literal["jsonl"] = "jsonl"
    column: Columns = "text"
    encoding: Encoding = "utf-8"
    reads_fast = True
    endings = tuple(
        f".{name}{packed}" for name in ("jsonl", "ndjson", "json") for packed in ("", ".gz", ".bz2", ".xz", ".zst")
    )

    def cuttable(self, whole: Slice) -> bool:
        return has_byte_lines(self.encoding)

    def read_file(self, reader: Reader) -> Iterator[Document]:
        for record in json_records(reader, self.encoding):
            found = text_of(record, self.column, reader)
            if found is None:
                continue
            if text := clean(found):
                reader.tally.keep(text)
                yield Document(f"{reader.name}: byte {reader.offset}", text)
            else:
                reader.tally.drop("empty")
