"""Rows of one document each as samples: batches of one length, and partners of other documents.

    index     0 ......... 79 | 80 .......... 199 | 200 .. 204     counts through the buckets, shortest length first
    bucket        16 tokens  |      24 tokens    | 32 tokens
    batches       16 tokens  |    24 tokens  |    32 tokens       (the last bucket has too few rows)

A batch is of a stretch of the index, padded to the longest row in it. A stretch is a bucket, unless that has fewer rows
than go into a batch: then the longest of the shorter rows fill it up, because a step of a few rows would be as long as
any other and mostly noise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reforge.batches.bucket_order import BucketOrder
from reforge.batches.order import Ints, Words
from reforge.batches.packing import PAD
from reforge.batches.partners import draw, one_document, other_rows
from reforge.batches.samples import Rows, Samples
from reforge.batches.shards import Shards
from reforge.spec import UserError


class Bucket(NamedTuple):
    """All rows of one length, and of each the number of its document."""

    rows: Shards
    documents: Shards


class Stretch(NamedTuple):
    """Neighbours in the index that share batches."""

    start: int
    num_rows: int
    row_tokens: int


class _Plan(NamedTuple):
    """The stretches for batches of some size, and the order of those batches."""

    stretches: list[Stretch]
    order: BucketOrder


class BucketedSamples(Samples):
    """Rows by length; `name` of the split is for messages.

    curriculum: whether the batches of the first epoch come from the shortest rows to the longest
    """

    def __init__(self, name: str, buckets: Sequence[Bucket], curriculum: bool = False) -> None:
        assert buckets
        self.name = name
        self.curriculum = curriculum
        self.buckets = buckets
        self.row_tokens = np.array([bucket.rows.block_tokens for bucket in buckets], dtype=np.int64)
        self.num_rows = np.array([len(bucket.rows) for bucket in buckets], dtype=np.int64)
        self.block_tokens = int(self.row_tokens[-1])
        self.num_tokens = int((self.num_rows * self.row_tokens).sum())
        self._ends = np.cumsum(self.num_rows)
        self._plans: dict[int, _Plan] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def rows_at(self, seed: int, step: int, global_batch: int) -> Rows:
        stretches, order = self._plan(global_batch)
        number, epochs, rows = order.locate(seed, step)
        return Rows(epochs, stretches[number].start + rows, stretches[number].row_tokens)

    def epoch_at(self, step: int, global_batch: int) -> float:
        return self._plan(global_batch).order.epoch_at(step)

    def lengths(self, indices: Ints) -> Ints:
        return self.row_tokens[self._bucket_of(indices)]

    def padded(self, indices: Ints, row_tokens: int) -> Ints:
        ids = np.full((len(indices), row_tokens), PAD, dtype=np.int64)
        buckets = self._bucket_of(indices)
        for bucket in np.unique(buckets):
            places = np.flatnonzero(buckets == bucket)
            rows = self.buckets[bucket].rows.blocks(indices[places] - self._start(bucket))
            ids[places, : rows.shape[1]] = rows
        return ids

    def partners(self, seed: int, rows: Rows) -> Ints:
        """From the row's own bucket where that has another document, else from all; padded to the longest of them."""
        noise, buckets = draw(seed, rows), self._bucket_of(rows.samples)
        chosen = np.empty_like(rows.samples)
        for bucket in np.unique(buckets):
            places = np.flatnonzero(buckets == bucket)
            chosen[places] = self._others(int(bucket), rows.samples[places], noise[places])
        return self.blocks(chosen)

    def check(self, partners: bool) -> None:
        if partners and one_document([bucket.documents for bucket in self.buckets]):
            raise UserError(
                f"the objective pairs texts of different documents, and the {self.name} split has only one: add "
                "documents, or change data.valid_fraction"
            )

    def stretches(self, global_batch_tokens: int) -> list[Stretch]:
        """The stretches that batches of so many tokens are of, from long to short; together they are the split."""
        assert global_batch_tokens >= self.block_tokens
        found: list[Stretch] = []
        stop = len(self)
        while stop:
            bucket = int(self._bucket_of(np.array([stop - 1]))[0])
            row_tokens = int(self.row_tokens[bucket])
            wanted = stop - global_batch_tokens // row_tokens
            if wanted < 0 and found:  # what is left is no batch: it joins the stretch before
                found[-1] = found[-1]._replace(start=0, num_rows=found[-1].start + found[-1].num_rows)
                break
            start = max(0, min(self._start(bucket), wanted))
            found.append(Stretch(start, stop - start, row_tokens))
            stop = start
        return found

    def _plan(self, global_batch_tokens: int) -> "_Plan":
        if global_batch_tokens not in self._plans:
            stretches = self.stretches(global_batch_tokens)
            rows = [stretch.num_rows for stretch in stretches]
            batches = [global_batch_tokens // stretch.row_tokens for stretch in stretches]
            self._plans[global_batch_tokens] = _Plan(stretches, BucketOrder(rows, batches, self.curriculum))
        return self._plans[global_batch_tokens]

    def _others(self, bucket: int, samples: Ints, noise: Words) -> Ints:
        """A row of another document for each of the `samples` [B] of a bucket."""
        start, documents = self._start(bucket), self.buckets[bucket].documents
        own = documents.blocks(samples - start)[:, 0]
        if not one_document([documents]):
            return start + other_rows([documents], own, noise)
        self.check(partners=True)
        return other_rows([bucket.documents for bucket in self.buckets], own, noise)

    def _start(self, bucket: int) -> int:
        return int(self._ends[bucket] - self.num_rows[bucket])

    def _bucket_of(self, indices: Ints) -> Ints:
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"row index outside 0..{len(self) - 1}")
        return np.searchsorted(self._ends, indices, side="right")
