"""Records (key, part, number) of many tasks, sorted by key: what brings equal keys together without a table in memory.

tasks      a part's records, a stretch at a time --sort--> <kind>-00000, <kind>-00001, ...
one slot   its range of every file --sort--> blocks in the order (key, part, number)

A file is [number of slots, n] [first record of each slot, n] [key] * n [number] * n, all little-endian. A slot is a
range of keys, so it is one stretch of each file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reforge.batches.order import Ints, Words
from reforge.batches.storage import sync_file

_KEY, _NUMBER = np.dtype("<u8"), np.dtype("<u4")
# Records that are sorted at once: with the copies that sorting makes, about 150 MiB.
_MOST_RECORDS = 1 << 21
_ALL_KEYS = 1 << 64


class Records(NamedTuple):
    """Three arrays of one length."""

    keys: Words
    parts: NDArray[np.uint32]
    numbers: NDArray[np.uint32]


class RecordWriter:
    """Writes one part's records of a kind; their numbers must not fall.

    first_keys: of each slot, ascending from 0
    """

    def __init__(self, folder: Path, kind: str, first_keys: Words) -> None:
        self._folder, self._kind, self._first_keys = folder, kind, first_keys
        self._waiting: list[tuple[Words, NDArray[np.uint32]]] = []
        self._num_waiting = self._num_files = 0

    def add(self, keys: Words, numbers: NDArray[np.uint32]) -> None:
        self._waiting.append((keys, numbers))
        self._num_waiting += len(keys)
        if self._num_waiting >= _MOST_RECORDS:
            self._flush()

    def close(self) -> None:
        if self._num_waiting:
            self._flush()

    def _flush(self) -> None:
        keys = np.concatenate([keys for keys, _ in self._waiting])
        numbers = np.concatenate([numbers for _, numbers in self._waiting])
        self._waiting, self._num_waiting = [], 0
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        edges = np.append(np.searchsorted(keys, self._first_keys), len(keys))
        with (self._folder / f"{self._kind}-{self._num_files:05d}").open("wb") as file:
            file.write(np.array([len(self._first_keys), len(keys)], _KEY).tobytes())
            file.write(edges.astype(_KEY).tobytes())
            file.write(keys.astype(_KEY, copy=False).tobytes())
            file.write(numbers[order].astype(_NUMBER, copy=False).tobytes())
            sync_file(file)
        self._num_files += 1


class SortedRecords:
    """The records of a kind in some slots of all parts.

    folders: of each part in order
    """

    def __init__(self, folders: Sequence[Path], kind: str, slots: range) -> None:
        self._files = [
            _File.opened(part, file, slots)
            for part, folder in enumerate(folders)
            for file in sorted(folder.glob(f"{kind}-*"))
        ]
        self._num_slots = len(slots)

    def blocks(self, most: int = _MOST_RECORDS) -> Iterator[Records]:
        """All records in the order (key, part, number), about `most` of them at a time."""
        yield from self._between_slots(0, self._num_slots, most)

    def _between_slots(self, first: int, last: int, most: int) -> Iterator[Records]:
        count = sum(file.edges[last] - file.edges[first] for file in self._files)
        if not count:
            return
        if count <= most:
            yield _merged([file.read(first, last) for file in self._files])
        elif last - first > 1:
            middle = (first + last) // 2
            yield from self._between_slots(first, middle, most)
            yield from self._between_slots(middle, last, most)
        else:
            yield from self._within_slot(first, 0, _ALL_KEYS, most)

    def _within_slot(self, slot: int, low: int, high: int, most: int) -> Iterator[Records]:
        """The records of a crowded slot from key `low` to below `high`; it is read again for each half."""
        found, count = list[Records](), 0
        for file in self._files:
            records = _between_keys(file.read(slot, slot + 1), low, high)
            found, count = [*found, records], count + len(records.keys)
            if count > most and high - low > 1:
                middle = (low + high) // 2
                yield from self._within_slot(slot, low, middle, most)
                yield from self._within_slot(slot, middle, high, most)
                return
            if count > most:
                yield _merged(found)
                found, count = [], 0
        if count:
            yield _merged(found)


class _File(NamedTuple):
    """One file of sorted records; edges: the first record of each slot that is asked for, and the end of the last."""

    part: int
    path: Path
    edges: list[int]
    keys_at: int
    numbers_at: int

    @classmethod
    def opened(cls, part: int, path: Path, slots: range) -> "_File":
        with path.open("rb") as file:
            num_slots, count = _read(file, 0, 2, _KEY).tolist()
            edges = _read(file, (2 + slots.start) * _KEY.itemsize, len(slots) + 1, _KEY).tolist()
        keys_at = (2 + num_slots + 1) * _KEY.itemsize
        return cls(part, path, edges, keys_at, keys_at + count * _KEY.itemsize)

    def read(self, first: int, last: int) -> Records:
        start, count = self.edges[first], self.edges[last] - self.edges[first]
        if not count:
            return Records(np.empty(0, _KEY), np.empty(0, _NUMBER), np.empty(0, _NUMBER))
        with self.path.open("rb") as file:
            keys = _read(file, self.keys_at + start * _KEY.itemsize, count, _KEY)
            numbers = _read(file, self.numbers_at + start * _NUMBER.itemsize, count, _NUMBER)
        return Records(keys, np.full(count, self.part, _NUMBER), numbers)


def even_slots(num_slots: int) -> Words:
    """The first keys of slots that share all 64-bit keys evenly."""
    return np.array([-(-_ALL_KEYS * slot // num_slots) for slot in range(num_slots)], np.uint64)


def _read(file: Any, offset: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    file.seek(offset)
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)


def _between_keys(records: Records, low: int, high: int) -> Records:
    first = np.searchsorted(records.keys, np.uint64(low), side="left")
    last = np.searchsorted(records.keys, np.uint64(high - 1), side="right")
    return _at(records, slice(int(first), int(last)))


def _merged(records: Sequence[Records]) -> Records:
    """One block out of the files' records in the order of the parts; sorting keeps that order among equal keys."""
    keys, parts, numbers = (np.concatenate(columns) for columns in zip(*records, strict=True))
    return _at(Records(keys, parts, numbers), np.argsort(keys, kind="stable"))


def _at(records: Records, places: slice | Ints) -> Records:
    return Records(records.keys[places], records.parts[places], records.numbers[places])
