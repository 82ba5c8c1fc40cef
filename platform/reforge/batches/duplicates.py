"""Documents that an earlier one makes superfluous, found by many tasks that share nothing but files.

    part of the corpus -- KeyWriter --> its keys, sorted     (one task a part, while it is read)
    a range of the keys of all parts -- find_duplicates --> (part, number) of what is dropped   (one task a partition)
    part of the corpus -- dropped_in --> its documents without these

Each kind of key is looked at by itself: a document that is dropped for one still counts as earlier for the others. So
what is dropped is a function of the documents and their order alone. Texts and keys are compared by 64-bit hashes: the
chance that any of two thousand million documents is dropped by mistake is 0.1.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reforge.batches.minhash import Signatures, Sketch, band_keys, least_agreement, low_bytes, num_bands
from reforge.batches.near_duplicates import Buckets, read_signatures
from reforge.batches.sorted_records import Records, RecordWriter, SortedRecords, even_slots
from reforge.batches.storage import remove_folder, sync_file
from reforge.corpora import Document
from reforge.corpora.cleaning import Cleaning, NearDuplicates

# Of a document that is found for several reasons, the first counts.
_REASONS = {"key": "same key", "text": "exact duplicate", "band": "near duplicate"}
_SIGNATURES = "signatures"
_SLOTS_PER_PARTITION = 16
_BATCH = 4096
_GIB = 1 << 30
_ALL = 1 << 62
Find = Callable[[Records], NDArray[np.bool_]]


class KeyWriter:
    """Writes what the documents of one part are compared by into a new folder.

    keyed: documents carry keys
    num_partitions: the same for all parts of a corpus
    """

    def __init__(self, folder: Path, cleaning: Cleaning, keyed: bool, num_partitions: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        slots = even_slots(num_partitions * _SLOTS_PER_PARTITION)
        self._keys = _HashWriter(RecordWriter(folder, "key", slots)) if keyed else None
        self._texts = _HashWriter(RecordWriter(folder, "text", slots)) if cleaning.duplicates != "keep" else None
        self._bands = None
        if cleaning.duplicates == "near":
            self._bands = _BandWriter(RecordWriter(folder, "band", slots), folder / _SIGNATURES, cleaning.near)

    def add(self, number: int, document: Document) -> None:
        """Take the next document; `number` counts those of the part from 0."""
        if self._keys is not None and document.key:
            self._keys.add(number, document.key)
        if self._texts is not None:
            self._texts.add(number, document.text)
        if self._bands is not None:
            self._bands.add(number, document.text)

    def close(self) -> None:
        """Write what is left."""
        for writer in (self._keys, self._texts, self._bands):
            if writer is not None:
                writer.close()


class _HashWriter:
    """Records of the hashes of texts."""

    def __init__(self, records: RecordWriter) -> None:
        self._records = records
        self._hashes, self._numbers = array("Q"), array("L")

    def add(self, number: int, text: str) -> None:
        self._hashes.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))
        self._numbers.append(number)
        if len(self._hashes) == _BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._records.close()

    def _flush(self) -> None:
        self._records.add(np.array(self._hashes, np.uint64), np.array(self._numbers, np.uint32))
        self._hashes, self._numbers = array("Q"), array("L")


class _BandWriter:
    """Records of the bands of signatures, and the signatures' low bytes: a row for each document."""

    def __init__(self, records: RecordWriter, signatures: Path, near: NearDuplicates) -> None:
        self._records, self._sketch, self._bands = records, Sketch(near), num_bands(near)
        self._file = signatures.open("wb")
        self._waiting: list[Signatures] = []
        self._num_documents = 0

    def add(self, number: int, text: str) -> None:
        assert number == self._num_documents + len(self._waiting), "documents are numbered without gaps"
        self._waiting.append(self._sketch.signature(text))
        if len(self._waiting) == _BATCH:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        sync_file(self._file)
        self._file.close()
        self._records.close()

    def _flush(self) -> None:
        signatures = np.stack(self._waiting)
        numbers = np.arange(self._num_documents, self._num_documents + len(signatures), dtype=np.uint32)
        self._records.add(band_keys(signatures, self._bands).ravel(), np.repeat(numbers, self._bands))
        self._file.write(low_bytes(signatures).tobytes())
        self._num_documents, self._waiting = self._num_documents + len(signatures), []


def num_partitions(total_bytes: int, cleaning: Cleaning) -> int:
    """How many tasks look for duplicates in a corpus of about `total_bytes`: one takes seconds to minutes.

    Their memory does not depend on it: records are sorted a few million at a time.
    """
    return 1 + total_bytes // (_GIB if cleaning.duplicates == "near" else 8 * _GIB)


def find_duplicates(folders: Sequence[Path], partition: int, cleaning: Cleaning, out: Path) -> None:
    """Write to the folder `out` which documents have an earlier one like them, by the keys of one partition.

    folders: of each part's KeyWriter, in order
    """
    remove_folder(out)
    out.mkdir(parents=True)
    slots = range(partition * _SLOTS_PER_PARTITION, (partition + 1) * _SLOTS_PER_PARTITION)
    for kind, find in _finders(folders, cleaning):
        found = RecordWriter(out, kind, np.arange(len(folders), dtype=np.uint64))
        for records in SortedRecords(folders, kind, slots).blocks():
            chosen = find(records)
            found.add(records.parts[chosen].astype(np.uint64), records.numbers[chosen])
        found.close()


def _finders(folders: Sequence[Path], cleaning: Cleaning) -> Iterator[tuple[str, Find]]:
    yield "key", _Repeated()
    yield "text", _Repeated()
    if cleaning.duplicates == "near":
        near = cleaning.near
        read = partial(read_signatures, [folder / _SIGNATURES for folder in folders], near.num_permutations)
        yield "band", Buckets(read, least_agreement(near)).found


class _Repeated:
    """Which records have the key of an earlier one; takes blocks of records in order."""

    def __init__(self) -> None:
        self._last: int | None = None

    def __call__(self, records: Records) -> NDArray[np.bool_]:
        first = self._last is not None and int(records.keys[0]) == self._last
        self._last = int(records.keys[-1])
        return np.insert(records.keys[1:] == records.keys[:-1], 0, first)


def dropped_in(outs: Sequence[Path], part: int) -> Mapping[int, str]:
    """The reason for each document of a part that is dropped, by its number.

    outs: the folders of all partitions
    """
    return _Dropped({kind: _numbers(outs, kind, part) for kind in _REASONS})


def _numbers(outs: Sequence[Path], kind: str, part: int) -> NDArray[np.uint32]:
    blocks = [records.numbers for records in SortedRecords(outs, kind, range(part, part + 1)).blocks(_ALL)]
    return np.concatenate([np.empty(0, np.uint32), *blocks])


class _Dropped(Mapping[int, str]):
    """Reasons by number, in a byte for each document."""

    def __init__(self, numbers: Mapping[str, NDArray[np.uint32]]) -> None:
        self._codes = np.zeros(
            1 + max((int(found.max()) for found in numbers.values() if len(found)), default=-1), "u1"
        )
        self._reasons = ["", *reversed(_REASONS.values())]
        for code, kind in enumerate(reversed(_REASONS), start=1):
            self._codes[numbers[kind]] = code
        self._lookup = self._codes.tobytes()

    def __getitem__(self, number: int) -> str:
        code = self._lookup[number] if 0 <= number < len(self._lookup) else 0
        if not code:
            raise KeyError(number)
        return self._reasons[code]

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 0 <= number < len(self._lookup) and self._lookup[number] > 0

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._codes).tolist())

    def __len__(self) -> int:
        return int(np.count_nonzero(self._codes))
