"""Blocks of token ids on disk: files of bounded size, written once, read through memory maps.

A file is [blocks, block_tokens] of little-endian uint16, or uint32 for vocabularies of 65,536 tokens and more.
"""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from reforge.batches.order import Ints
from reforge.batches.storage import sync_file


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest type on disk that holds every id of a vocabulary."""
    return np.dtype("<u2" if vocab_size < 1 << 16 else "<u4")


class Shards:
    """The blocks of one split, mapped when first read. Pickles as paths: the receiver maps the files itself.

    files: path and number of blocks of each file, in order
    """

    def __init__(self, files: list[tuple[Path, int]], block_tokens: int, dtype: np.dtype[Any]) -> None:
        self.files = files
        self.block_tokens = block_tokens
        self.dtype = dtype
        self._ends = np.cumsum([blocks for _, blocks in files], dtype=np.int64)
        self._starts = np.append(0, self._ends[:-1])
        self._maps: dict[int, np.memmap[Any, Any]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.files else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def blocks(self, indices: NDArray[np.integer[Any]]) -> Ints:
        """The blocks at `indices` [n] as [n, block_tokens]."""
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"block index outside 0..{len(self) - 1}")
        out = np.empty((len(indices), self.block_tokens), dtype=np.int64)
        numbers = np.searchsorted(self._ends, indices, side="right")
        self.fill(out, numbers, indices - self._starts[numbers])
        return out

    def fill(self, out: Ints, numbers: Ints, rows: Ints) -> None:
        """Read into `out` [n, block_tokens] the blocks at `rows` [n] of the files with `numbers` [n]."""
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            out[places] = self.map(int(number))[rows[places]]

    def local_file(self, path: Path) -> Path:
        """Where a file can be mapped from."""
        return path

    def map(self, number: int) -> "np.memmap[Any, Any]":
        """One file as a read-only memory map [blocks, block_tokens]."""
        if number not in self._maps:
            path, blocks = self.files[number]
            self._maps[number] = np.memmap(self.local_file(path), self.dtype, "r", shape=(blocks, self.block_tokens))
        return self._maps[number]


class ShardWriter:
    """Writes blocks into files `<split>-00000.bin`, ... of at most `max_bytes`, each synced to disk when full."""

    def __init__(self, folder: Path, split: str, block_tokens: int, dtype: np.dtype[Any], max_bytes: int) -> None:
        self.files: list[tuple[str, int]] = []
        self.dtype = dtype
        self._folder, self._split = folder, split
        self._blocks_per_file = max(1, max_bytes // (block_tokens * dtype.itemsize))
        self._file: BinaryIO | None = None

    def write(self, blocks: NDArray[np.integer[Any]]) -> None:
        """Append blocks [n, block_tokens]."""
        while len(blocks):
            if self._file is None:
                self._open()
            assert self._file is not None
            name, written = self.files[-1]
            part = blocks[: self._blocks_per_file - written]
            self._file.write(np.ascontiguousarray(part, dtype=self.dtype).data)
            self.files[-1] = (name, written + len(part))
            blocks = blocks[len(part) :]
            if self.files[-1][1] == self._blocks_per_file:
                self.close()

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                sync_file(file)

    def _open(self) -> None:
        name = f"{self._split}-{len(self.files):05d}.bin"
        self._file = (self._folder / name).open("wb")
        self.files.append((name, 0))
