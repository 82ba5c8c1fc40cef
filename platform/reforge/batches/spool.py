"""Documents that were read once, kept packed on disk until they are encoded: cheaper than to read and clean them again.

One JSON line a document in a Zstandard file: [split, text, group].
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from reforge.batches.reading import SplitDocument
from reforge.batches.storage import sync_file
from reforge.corpora import Document

_FILE = "documents.zst"
_LEVEL = 1


class SpoolWriter:
    """Writes documents into a folder, in their order."""

    def __init__(self, folder: Path) -> None:
        self._file: Any = (folder / _FILE).open("wb")
        self._packer: Any = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(self._file, closefd=False)

    def add(self, split: str, document: Document) -> None:
        line = json.dumps([split, document.text, document.group], ensure_ascii=False)
        self._packer.write(line.encode() + b"\n")

    def close(self) -> None:
        self._packer.close()
        sync_file(self._file)
        self._file.close()


def has_spool(folder: Path) -> bool:
    """Whether a folder keeps documents."""
    return (folder / _FILE).exists()


def read_spool(folder: Path) -> Iterator[SplitDocument]:
    """The documents of a folder, in their order; without names and keys."""
    with (folder / _FILE).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as content:
        begun = b""
        while part := content.read(1 << 20):
            *lines, begun = (begun + part).split(b"\n")
            for line in lines:
                split, text, group = json.loads(line)
                yield SplitDocument(split, Document("", text, group=group))
