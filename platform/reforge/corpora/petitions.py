"""Petitions to the Blue House as Korpora has them: JSON lines in files without an ending, petitions_2017-08 and so on.

{"category": .., "begin": .., "end": .., "content": .., "num_agree": .., "petition_idx": .., "status": .., "title": ..}
"""

import unicodedata
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.records import json_records, text_of


class Petitions(FileCorpus):
    """Petitions with their title as first line.

    with_title: without it, a document is the content alone
    min_chars: petitions whose content is shorter are dropped
    """

    kind: Literal["petitions"] = "petitions"
    with_title: bool = True
    min_chars: int = Field(default=1, ge=1)
    reads_fast = True

    def cuttable(self, whole: Slice) -> bool:
        return True

    def read_file(self, reader: Reader) -> Iterator[Document]:
        for record in json_records(reader):
            title = text_of(record, "title", reader) if self.with_title else ""
            content = None if title is None else text_of(record, "content", reader)
            if title is None or content is None:
                continue
            content = unicodedata.normalize("NFC", content).strip()
            if not content:
                reader.tally.drop("empty")
            elif len(content) < self.min_chars:
                reader.tally.drop(f"content shorter than {self.min_chars} characters")
            else:
                text = f"{' '.join(unicodedata.normalize('NFC', title).split())}\n{content}".lstrip("\n")
                reader.tally.keep(text)
                yield Document(f"{reader.name}: byte {reader.offset}", text)
