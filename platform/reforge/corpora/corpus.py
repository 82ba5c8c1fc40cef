"""What every corpus promises, whatever form its text is in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reforge.corpora.tally import Tally
from reforge.spec import Part


class Document(NamedTuple):
    """One clean text. `name` says where it came from, for messages: "AA/wiki_00: doc 5"."""

    name: str
    text: str


class Corpus(Part, ABC):
    """A source of documents. What comes out is decided by its options, `identity()` and the content of `files()`."""

    kind: str

    def files(self) -> list[Path]:
        """Every file that is read, in reading order; none where the source is not files."""
        return []

    def file_names(self) -> list[str]:
        """The name of each of `files()` that stays the same when the corpus moves to another place."""
        return []

    def identity(self) -> dict[str, object]:
        """What decides the documents besides the content of `files()`."""
        return self.model_dump(mode="json")

    @abstractmethod
    def documents(self, tally: Tally) -> Iterator[Document]:
        """Stream the documents in a fixed order and count them in `tally`; never the whole corpus in memory."""
