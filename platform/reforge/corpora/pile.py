"""The Pile's records (Gao et al. 2020): JSON lines, most often in Zstandard files.

{"text": ..., "meta": {"pile_set_name": ...}}
"""

import unicodedata
from collections.abc import Iterator
from typing import Literal

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.records import json_records, text_of


class Pile(FileCorpus):
    """The texts of `.jsonl.zst` files, streamed. `sets`: only records of these sets, by `pile_set_name` (null: all)."""

    kind: Literal["pile"] = "pile"
    sets: tuple[str, ...] | None = None
    reads_fast = True

    def cuttable(self, whole: Slice) -> bool:
        return True

    def read_file(self, reader: Reader) -> Iterator[Document]:
        for record in json_records(reader):
            text = text_of(record, "text", reader)
            if text is None:
                continue
            if self.sets is not None and record.get("meta", {}).get("pile_set_name") not in self.sets:
                reader.tally.drop("of another set")
            elif text := unicodedata.normalize("NFC", text).strip():
                reader.tally.keep(text)
                yield Document(f"{reader.name}: byte {reader.offset}", text)
            else:
                reader.tally.drop("empty")
