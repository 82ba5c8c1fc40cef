"""What every corpus promises, whatever form its text is in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from reforge.corpora.tally import Tally
from reforge.spec import Part


class Document(NamedTuple):
    """One clean text.

    name: where it came from, for messages: "AA/wiki_00: doc 5"
    key: documents of one key are the same one, of which the first in reading order is kept; "" is compared with none
    group: the set that it belongs to where sets are drawn with weights (`Corpus.weights`), else ""
    """

    name: str
    text: str
    key: str = ""
    group: str = ""


class Slice(NamedTuple):
    """A stretch of a corpus that can be read by itself: a file, or what begins between two offsets of it.

    start, stop: bytes of the file's unpacked content, or rows where there is no file; None is the end
    member: which corpus of a mixture it is of
    """

    name: str
    file: Path | None = None
    start: int = 0
    stop: int | None = None
    member: int = 0


class Extent(NamedTuple):
    """How much a source without a file holds: rows that it can be cut at, and about how many bytes of text."""

    num_rows: int
    num_bytes: int


class Corpus(Part, ABC):
    """A source of documents. What comes out is decided by its options, `identity()` and the content of `files()`.

    reads_fast: reading a second time costs less than keeping what was read the first time
    keyed: documents carry keys
    """

    kind: str
    reads_fast: ClassVar[bool] = False

    @property
    def keyed(self) -> bool:
        """Whether documents carry keys."""
        return False

    def files(self) -> list[Path]:
        """Every file that is read, in reading order; none where the source is not files."""
        return []

    def file_names(self) -> list[str]:
        """The name of each of `files()` that stays the same when the corpus moves to another place."""
        return []

    def identity(self) -> dict[str, object]:
        """What decides the documents besides the content of `files()`."""
        return self.model_dump(mode="json")

    def classes(self) -> list[type["Corpus"]]:
        """The classes whose code makes the documents."""
        return [type(self)]

    def whole(self) -> list[Slice]:
        """All of the corpus in reading order: a slice for each file, or for each source that is no file."""
        return [Slice(name, file) for name, file in zip(self.file_names(), self.files(), strict=True)]

    def cuttable(self, whole: Slice) -> bool:
        """Whether one of `whole()` may be cut between any two offsets: each document is then read exactly once."""
        return False

    def extent(self, whole: Slice) -> Extent:
        """The size of one of `whole()` that has no file."""
        return Extent(1, 0)

    def weights(self) -> Mapping[str, float]:
        """How often each group of documents is seen in an epoch; {} where documents have no groups."""
        return {}

    @abstractmethod
    def read(self, slices: Sequence[Slice], tally: Tally) -> Iterator[Document]:
        """Stream the documents of `slices` in order and count them in `tally`; never more than a few in memory."""

    def documents(self, tally: Tally) -> Iterator[Document]:
        """Stream all documents in a fixed order and count them in `tally`."""
        return self.read(self.whole(), tally)
