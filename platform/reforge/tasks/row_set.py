"""The rows of a labelled set as samples: held in memory, shortest first, batches of similar length.

    rows --pack--> flat arrays, sorted by length
    epoch: a shuffle --> chunks of 50 batches, each sorted by length --> batches, shuffled within their chunk

The order is a function of (seed, epoch) alone. One batch of an epoch's last chunk is what is left, and smaller.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from reforge.batches import Batch, Rows, Samples
from reforge.batches.order import Ints, permute
from reforge.tasks.task import PAD_ID, Array, Row

# Within so many batches rows are brought together by length: fewer would pad more, more would make batches alike.
CHUNK_BATCHES = 50
SEGMENTS = "segments"


class _Ragged(NamedTuple):
    """Arrays of many lengths, one after the other; `ends` [n + 1] begins with 0."""

    values: Array
    ends: Ints

    @classmethod
    def of(cls, arrays: list[Array]) -> "_Ragged":
        sizes = np.array([array.size for array in arrays], dtype=np.int64)
        values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0, np.int64)
        return cls(values, np.concatenate([[0], np.cumsum(sizes)]))

    def one(self, index: int) -> Array:
        return self.values[self.ends[index] : self.ends[index + 1]]

    def padded(self, indices: Ints, width: int) -> Array:
        starts, sizes = self.ends[indices], self.ends[indices + 1] - self.ends[indices]
        out = np.zeros((len(indices), width), dtype=self.values.dtype)
        inside = np.arange(width) < sizes[:, None]
        places = np.repeat(starts - np.concatenate([[0], np.cumsum(sizes)])[:-1], sizes) + np.arange(sizes.sum())
        out[inside] = self.values[places]
        return out


class RowSet(Samples):
    """Rows by index, shortest first; `order` [n] says which of the given rows each of them is."""

    def __init__(self, rows: Iterable[Row]) -> None:
        given = list(rows)
        self.order = np.argsort([len(row.ids) for row in given], kind="stable").astype(np.int64)
        sorted_rows = [given[number] for number in self.order]
        self.examples = np.array([row.example for row in sorted_rows], dtype=np.int64)
        self._ids = _Ragged.of([row.ids.astype(np.int32) for row in sorted_rows])
        extras = {name: [row.extras[name] for row in sorted_rows] for name in (given[0].extras if given else {})}
        if given and given[0].segments is not None:
            extras[SEGMENTS] = [row.segments.astype(np.int8) for row in sorted_rows if row.segments is not None]
        self._scalars = {name: np.array(found) for name, found in extras.items() if found[0].ndim == 0}
        self._ragged = {name: _Ragged.of(found) for name, found in extras.items() if found[0].ndim == 1}
        self._sizes = np.diff(self._ids.ends)
        self.block_tokens = int(self._sizes.max(initial=1))
        self.num_tokens = int(self._sizes.sum())
        self.batches_of_epoch = lru_cache(maxsize=4)(self._batches_of_epoch)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def all_indices(self) -> Ints:
        """Every row's index, shortest first."""
        return np.arange(len(self))

    def fingerprint(self) -> str:
        """A digest of all rows."""
        digest = hashlib.blake2b(self.examples.tobytes(), digest_size=16)
        for name, array in sorted(self._scalars.items()):
            digest.update(name.encode() + array.tobytes())
        for name, (values, ends) in sorted({**self._ragged, "ids": self._ids}.items()):
            digest.update(name.encode() + values.tobytes() + ends.tobytes())
        return digest.hexdigest()

    def row(self, index: int) -> Row:
        """A row as it was given."""
        extras = {name: values[index] for name, values in self._scalars.items()}
        ragged = {name: values.one(index) for name, values in self._ragged.items()}
        segments = ragged.pop(SEGMENTS, None)
        return Row(int(self.examples[index]), self._ids.one(index), segments, {**extras, **ragged})

    def steps_in_epoch(self, global_batch: int) -> int:
        """Steps that see every row once."""
        return -(-len(self) // global_batch)

    def rows_at(self, seed: int, step: int, global_batch: int) -> Rows:
        """`global_batch` rows, or what is left of the epoch."""
        epoch, number = divmod(step, self.steps_in_epoch(global_batch))
        samples, starts = self.batches_of_epoch(seed, epoch, global_batch)
        chosen = samples[starts[number] : starts[number + 1]]
        return Rows(np.full(len(chosen), epoch), chosen, int(self._sizes[chosen].max()))

    def epoch_at(self, step: int, global_batch: int) -> float:
        return step / self.steps_in_epoch(global_batch)

    def lengths(self, indices: Ints) -> Ints:
        return self._sizes[indices]

    def padded(self, indices: Ints, row_tokens: int) -> Ints:
        assert PAD_ID == 0
        return self._ids.padded(indices, row_tokens).astype(np.int64)

    def partners(self, seed: int, rows: Rows) -> Ints:
        raise NotImplementedError("labelled rows have no partners")

    def check(self, partners: bool) -> None:
        assert not partners

    def read(self, rows: Rows, seed: int, partners: bool = False) -> Batch:
        """Rows with what belongs to them; extras are padded to the longest of the batch, segments to the row."""
        indices = rows.samples
        extras = {name: values[indices] for name, values in self._scalars.items()}
        for name, ragged in self._ragged.items():
            widest = int((ragged.ends[indices + 1] - ragged.ends[indices]).max(initial=1))
            extras[name] = ragged.padded(indices, rows.row_tokens if name == SEGMENTS else max(1, widest))
        return Batch(self.padded(indices, rows.row_tokens), rows.epochs, indices, None, extras)

    def parts(self, indices: Ints, epoch: int, max_tokens: int) -> Iterator[tuple[int, Rows]]:
        """As for all samples, but rows of different lengths share a part, padded to the longest."""
        lengths, start = self.lengths(indices), 0
        while start < len(indices):
            sizes = lengths[start:] * np.arange(1, len(indices) - start + 1)
            end = start + max(1, int(np.searchsorted(sizes, max_tokens, side="right")))
            yield start, Rows(np.full(end - start, epoch), indices[start:end], int(lengths[end - 1]))
            start = end

    def _batches_of_epoch(self, seed: int, epoch: int, global_batch: int) -> tuple[Ints, Ints]:
        """All rows in the order of an epoch [n], and where each batch begins, with the end behind them."""
        count = len(self)
        shuffled = permute(np.arange(count), count, seed, np.full(count, epoch))
        chunk = (np.arange(count) // (global_batch * CHUNK_BATCHES)).astype(np.int64)
        by_length = shuffled[np.lexsort((self._sizes[shuffled], chunk))]
        num_batches = self.steps_in_epoch(global_batch)
        numbers = np.arange(num_batches)
        drawn = permute(numbers, num_batches, seed + 1, np.full(num_batches, epoch))
        order = numbers[np.lexsort((drawn, numbers // CHUNK_BATCHES))]
        batches = [by_length[number * global_batch : (number + 1) * global_batch] for number in order]
        return np.concatenate(batches), np.concatenate([[0], np.cumsum([len(batch) for batch in batches])])
