"""Documents that an earlier one makes superfluous. Signatures; the body follows within minutes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from reforge.corpora import Document
from reforge.corpora.cleaning import Cleaning


class KeyWriter:
    """Writes what the documents of one part are compared by into a new folder."""

    def __init__(self, folder: Path, cleaning: Cleaning, keyed: bool, num_partitions: int) -> None:
        raise NotImplementedError

    def add(self, number: int, document: Document) -> None:
        """Take the next document; numbers count those of the part from 0."""

    def close(self) -> None:
        """Write what is left."""


def num_partitions(total_bytes: int, cleaning: Cleaning) -> int:
    """How many tasks look for duplicates in a corpus of about that much text."""
    raise NotImplementedError


def find_duplicates(folders: Sequence[Path], partition: int, cleaning: Cleaning, out: Path) -> None:
    """Write to the folder `out` which documents have an earlier one like them; one task for each partition."""
    raise NotImplementedError


def dropped_in(outs: Sequence[Path], part: int) -> Mapping[int, str]:
    """The reason for each document of a part that is to be dropped."""
    raise NotImplementedError
