"""Which blocks make up a step's batch: a function of (seed, step), the same whoever asks and however many share it.

step s takes positions s*G .. s*G+G-1 of an endless stream; epoch e of the stream is permutation e of all blocks.
"""

from typing import NamedTuple

import numpy as np

from reforge.batches.order import Ints, permute
from reforge.batches.shards import Shards


class Batch(NamedTuple):
    """Blocks and where they stand in the data."""

    ids: Ints  # [B, T]
    epochs: Ints  # [B]
    samples: Ints  # [B], index of the block in the whole split


def global_samples(num_blocks: int, seed: int, step: int, global_batch_blocks: int) -> tuple[Ints, Ints]:
    """Epoch and block index [G] of every block of a step's global batch, in constant time for any step."""
    assert num_blocks > 0
    positions = np.arange(step * global_batch_blocks, (step + 1) * global_batch_blocks, dtype=np.int64)
    epochs, offsets = np.divmod(positions, num_blocks)
    return epochs, permute(offsets, num_blocks, seed, epochs)


def rank_batch(shards: Shards, seed: int, step: int, global_batch_blocks: int, rank: int, world_size: int) -> Batch:
    """One rank's slice of a step's global batch; the slices of all ranks, joined, are the global batch.

    Sizes differ by at most one, so with fewer blocks than ranks some get none.
    """
    assert 0 <= rank < world_size
    epochs, samples = global_samples(len(shards), seed, step, global_batch_blocks)
    start, stop = (global_batch_blocks * edge // world_size for edge in (rank, rank + 1))
    return Batch(shards.blocks(samples[start:stop]), epochs[start:stop], samples[start:stop])
