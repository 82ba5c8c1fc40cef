"""Packed blocks as samples: step s takes positions s*G .. s*G+G-1 of an endless stream of blocks.

Epoch e of the stream is permutation e of all blocks.
"""

import numpy as np

from reforge.batches.order import Ints, permute
from reforge.batches.samples import Rows, Samples
from reforge.batches.shards import Shards
from reforge.spec import UserError

_NO_PARTNERS = (
    "the objective pairs texts of different documents, and packed blocks do not tell documents apart: "
    "set data.batches to bucketed"
)


def global_samples(num_blocks: int, seed: int, step: int, global_batch_blocks: int) -> tuple[Ints, Ints]:
    """Epoch and block index [G] of every block of a step's global batch, in constant time for any step."""
    assert num_blocks > 0
    positions = np.arange(step * global_batch_blocks, (step + 1) * global_batch_blocks, dtype=np.int64)
    epochs, offsets = np.divmod(positions, num_blocks)
    return epochs, permute(offsets, num_blocks, seed, epochs)


class PackedSamples(Samples):
    """Blocks of equal length that hold any number of documents."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.block_tokens = shards.block_tokens
        self.num_tokens = len(shards) * shards.block_tokens

    def __len__(self) -> int:
        return len(self.shards)

    def rows_at(self, seed: int, step: int, global_batch_tokens: int) -> Rows:
        epochs, samples = global_samples(len(self), seed, step, global_batch_tokens // self.block_tokens)
        return Rows(epochs, samples, self.block_tokens)

    def epoch_at(self, step: int, global_batch_tokens: int) -> float:
        return step * (global_batch_tokens // self.block_tokens) / len(self)

    def lengths(self, indices: Ints) -> Ints:
        return np.full(len(indices), self.block_tokens, dtype=np.int64)

    def padded(self, indices: Ints, row_tokens: int) -> Ints:
        assert row_tokens == self.block_tokens or not len(indices)
        return self.shards.blocks(indices)

    def partners(self, seed: int, rows: Rows) -> Ints:
        raise UserError(_NO_PARTNERS)

    def check(self, partners: bool) -> None:
        if partners:
            raise UserError(_NO_PARTNERS)
