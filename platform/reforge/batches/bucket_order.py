"""Which rows of which bucket (rows that share batches) make up a step, in time that does not grow with the step.

    bucket b: endless stream of its rows, permutation after permutation, cut every `batch_rows[b]` rows
              |  batch 0  |  batch 1  |  batch 2  |  batch 3  | ...
              epoch 0 .............. / epoch 1 .............. / ...

Epoch e has the batches of every bucket that end within the first e + 1 permutations and belong to no epoch before; they
are permuted against each other, or, by a curriculum, those of epoch 0 come bucket by bucket, the last one first. So a
row left over at the end of a permutation opens a batch of the next epoch, none is ever lost, and no bucket gets ahead
of another by more than one batch.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from reforge.batches.order import Ints, permute


class BucketOrder:
    """The order of batches over buckets of `num_rows` rows, whose batches are of `batch_rows` rows.

    A bucket with fewer rows than a batch has smaller batches: all of its rows, once an epoch.
    curriculum: whether epoch 0 goes through the buckets from the last to the first
    """

    def __init__(self, num_rows: Sequence[int], batch_rows: Sequence[int], curriculum: bool = False) -> None:
        assert num_rows
        assert min(*num_rows, *batch_rows) > 0
        self.curriculum = curriculum
        self.num_rows = list(num_rows)
        self.batch_rows = [min(pair) for pair in zip(num_rows, batch_rows, strict=True)]

    def locate(self, seed: int, step: int) -> tuple[int, Ints, Ints]:
        """The bucket of a step's batch, and epoch and index in the bucket [B] of each of its rows."""
        epoch = self._epoch_of(step)
        before, after = self._batches_before(epoch), self._batches_before(epoch + 1)
        ends = np.cumsum(np.subtract(after, before))
        place, num_batches = step - sum(before), int(ends[-1])
        if self.curriculum and epoch == 0:
            place = num_batches - 1 - place
        else:
            place = _permuted(place, num_batches, _key(seed, "batches"), epoch)
        bucket = int(np.searchsorted(ends, place, side="right"))
        number = after[bucket] - int(ends[bucket]) + place
        return bucket, *self._rows(seed, bucket, number)

    def epoch_at(self, step: int) -> float:
        """How many epochs lie behind before `step`: whole ones, and the share of the batches of the one begun."""
        epoch = self._epoch_of(step)
        start, end = (sum(self._batches_before(edge)) for edge in (epoch, epoch + 1))
        return epoch + (step - start) / (end - start)

    def _rows(self, seed: int, bucket: int, number: int) -> tuple[Ints, Ints]:
        """Epochs and indices of the rows of a bucket's batch."""
        size = self.batch_rows[bucket]
        positions = np.arange(number * size, (number + 1) * size, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_rows[bucket])
        return epochs, permute(offsets, self.num_rows[bucket], _key(seed, f"bucket {bucket}"), epochs)

    def _batches_before(self, epoch: int) -> list[int]:
        """How many batches of each bucket lie before an epoch; Python's numbers, so that none is too large."""
        return [epoch * rows // size for rows, size in zip(self.num_rows, self.batch_rows, strict=True)]

    def _epoch_of(self, step: int) -> int:
        """The epoch that a step lies in: every one has a batch of every bucket at least."""
        return bisect_right(range(step + 1), step, key=lambda epoch: sum(self._batches_before(epoch))) - 1


def _permuted(position: int, n: int, seed: int, epoch: int) -> int:
    return int(permute(np.array([position]), n, seed, np.array([epoch]))[0])


def _key(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest())
