"""Which documents of a bucket resemble an earlier one of it, at a cost that grows only with the number of documents.

In reading order, a document is compared with the representatives of its bucket. It is dropped if it resembles one of
them, else it becomes another, up to 32. So boilerplate in millions of documents costs 32 comparisons each, and what is
dropped does not depend on how the corpus is cut into parts, blocks or partitions.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reforge.batches.minhash import LowBytes
from reforge.batches.order import Ints
from reforge.batches.sorted_records import Records

ReadSignatures = Callable[[NDArray[np.uint32], NDArray[np.uint32]], LowBytes]
_REPRESENTATIVES = 32
# Documents whose signatures are in memory at once (32 MiB of 128 bytes), and how many are compared in one go.
_MEMBERS = 1 << 18
_COMPARED = 1 << 15
# Two rows this near to each other in a file are read together with what is between them.
_GAP_BYTES = 1 << 16


class Buckets:
    """Takes blocks of records in order and says which of them resemble an earlier document of their bucket.

    read: the signatures [n, num_permutations] of documents by part and number
    least_agreement: places in which two signatures agree at least where documents resemble each other
    """

    def __init__(self, read: ReadSignatures, least_agreement: int, members: int = _MEMBERS) -> None:
        self._read, self._least_agreement, self._members = read, least_agreement, members
        self._key: int | None = None
        self._representatives: LowBytes = np.empty((0, 0), np.uint8)

    def found(self, records: Records) -> NDArray[np.bool_]:
        """Whether each record's document resembles an earlier one."""
        found = np.zeros(len(records.keys), np.bool_)
        members = self._with_company(records.keys)
        for start in range(0, len(members), self._members):
            chosen = members[start : start + self._members]
            signatures = self._read(records.parts[chosen], records.numbers[chosen])
            found[chosen] = self._resembling(records.keys[chosen], signatures)
        return found

    def _with_company(self, keys: NDArray[np.uint64]) -> Ints:
        """The records whose bucket has another, or may have one in the next block."""
        same = keys[1:] == keys[:-1]
        first = self._key is not None and int(keys[0]) == self._key
        return np.flatnonzero(np.append(same, True) | np.insert(same, 0, first))

    def _resembling(self, keys: NDArray[np.uint64], signatures: LowBytes) -> NDArray[np.bool_]:
        num_carried = len(self._representatives) if int(keys[0]) == self._key else 0
        if num_carried:
            keys = np.insert(keys, 0, np.full(num_carried, keys[0]))
            signatures = np.concatenate([self._representatives, signatures])
        found, represents = np.zeros((2, len(keys)), np.bool_)
        left = np.arange(len(keys))
        for _ in range(_REPRESENTATIVES):
            first = _first_of_bucket(keys, left)
            same = self._agree(signatures, left, first)
            represents[first] = True
            found[left[same & (left != first)]] = True
            left = left[~same]
            if not len(left):
                break
        self._key = int(keys[-1])
        self._representatives = signatures[represents & (keys == keys[-1])]
        return found[num_carried:]

    def _agree(self, signatures: LowBytes, left: Ints, first: Ints) -> NDArray[np.bool_]:
        same = np.empty(len(left), np.bool_)
        for start in range(0, len(left), _COMPARED):
            rows = slice(start, start + _COMPARED)
            agreement = (signatures[left[rows]] == signatures[first[rows]]).sum(axis=1, dtype=np.int32)
            same[rows] = agreement >= self._least_agreement
        return same


def _first_of_bucket(keys: NDArray[np.uint64], left: Ints) -> Ints:
    """For each record that is left, the first that is left of its bucket."""
    starts = np.flatnonzero(np.insert(keys[left[1:]] != keys[left[:-1]], 0, True))
    return np.repeat(left[starts], np.diff(np.append(starts, len(left))))


def read_signatures(
    files: Sequence[Path], width: int, parts: NDArray[np.uint32], numbers: NDArray[np.uint32]
) -> LowBytes:
    """Rows [n, width] of files of such rows; files: of each part."""
    rows = np.empty((len(parts), width), np.uint8)
    order = np.lexsort((numbers, parts))
    for group in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        with files[int(parts[group[0]])].open("rb") as file:
            for stretch in _stretches(numbers[group].astype(np.int64), width):
                chosen = group[stretch]
                rows[chosen] = _stretch(file, numbers[chosen].astype(np.int64), width)
    return rows


def _stretches(numbers: Ints, width: int) -> Iterator[slice]:
    """Ascending numbers cut where the gap between two rows is wide."""
    cuts = (np.flatnonzero(np.diff(numbers) * width > _GAP_BYTES) + 1).tolist()
    yield from (slice(*edges) for edges in zip([0, *cuts], [*cuts, len(numbers)], strict=True))


def _stretch(file: Any, numbers: Ints, width: int) -> LowBytes:
    first = int(numbers[0])
    file.seek(first * width)
    content = np.frombuffer(file.read((int(numbers[-1]) - first + 1) * width), np.uint8)
    return content.reshape(-1, width)[numbers - first]
