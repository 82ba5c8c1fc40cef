"""Rows of one document each as samples: batches of one length, and partners of other documents.

The index of a row counts through the buckets, shortest length first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reforge.batches.bucket_order import BucketOrder
from reforge.batches.order import Ints
from reforge.batches.packing import PAD
from reforge.batches.partners import draw, one_document, other_rows
from reforge.batches.samples import Rows, Samples
from reforge.batches.shards import Shards
from reforge.spec import UserError


class Bucket(NamedTuple):
    """All rows of one length, and of each the number of its document."""

    rows: Shards
    documents: Shards


class BucketedSamples(Samples):
    """Rows by length; `name` of the split is for messages."""

    def __init__(self, name: str, buckets: Sequence[Bucket]) -> None:
        assert buckets
        self.name = name
        self.buckets = buckets
        self.row_tokens = np.array([bucket.rows.block_tokens for bucket in buckets], dtype=np.int64)
        self.num_rows = np.array([len(bucket.rows) for bucket in buckets], dtype=np.int64)
        self.block_tokens = int(self.row_tokens[-1])
        self.num_tokens = int((self.num_rows * self.row_tokens).sum())
        self._ends = np.cumsum(self.num_rows)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def rows_at(self, seed: int, step: int, global_batch_tokens: int) -> Rows:
        bucket, epochs, rows = self._order(global_batch_tokens).locate(seed, step)
        return Rows(epochs, self._start(bucket) + rows, int(self.row_tokens[bucket]))

    def epoch_at(self, step: int, global_batch_tokens: int) -> float:
        return self._order(global_batch_tokens).epoch_at(step)

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
        """From the rows' own bucket where it has another document, else from all, padded to `block_tokens`."""
        bucket = int(np.searchsorted(self.row_tokens, rows.row_tokens))
        start, documents = self._start(bucket), self.buckets[bucket].documents
        own = documents.blocks(rows.samples - start)[:, 0]
        noise = draw(seed, rows)
        if not one_document([documents]):
            return self.padded(start + other_rows([documents], own, noise), rows.row_tokens)
        self.check(partners=True)
        return self.padded(other_rows([bucket.documents for bucket in self.buckets], own, noise), self.block_tokens)

    def check(self, partners: bool) -> None:
        if partners and one_document([bucket.documents for bucket in self.buckets]):
            raise UserError(
                f"the objective pairs texts of different documents, and the {self.name} split has only one: add "
                "documents, or change data.valid_fraction"
            )

    def _order(self, global_batch_tokens: int) -> BucketOrder:
        assert global_batch_tokens >= self.block_tokens
        return BucketOrder(self.num_rows.tolist(), (global_batch_tokens // self.row_tokens).tolist())

    def _start(self, bucket: int) -> int:
        return int(self._ends[bucket] - self.num_rows[bucket])

    def _bucket_of(self, indices: Ints) -> Ints:
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"row index outside 0..{len(self) - 1}")
        return np.searchsorted(self._ends, indices, side="right")
