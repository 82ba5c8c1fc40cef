"""Dynamic masking (Devlin et al. 2019, Liu et al. 2019), drawn without replacement and without a random state.

Every draw is a hash of (seed, epoch, sample, position): the same on any number of workers, in any batch, after any
resume, and new in every epoch. Shapes: B batch, T tokens.
"""

from typing import NamedTuple

import numpy as np

from reforge.batches import Batch
from reforge.batches.order import GOLDEN, Words, mix
from reforge.tokenizers import SPECIAL_TOKENS

NUM_SPECIAL = len(SPECIAL_TOKENS)
MASK_ID = SPECIAL_TOKENS.index("[MASK]")
IGNORED = -100
NUM_STREAMS = 4  # at most so many independent draws a token


class Masked(NamedTuple):
    """Ids with some replaced [B, T], and the original ids where a guess is asked for, IGNORED elsewhere [B, T]."""

    ids_BT: np.ndarray
    targets_BT: np.ndarray


def random_bits(batch: Batch, seed: int, stream: int) -> Words:
    """Uniform uint64 [B, T] as a function of (seed, stream, epoch, sample, position)."""
    key_B = mix(np.full(len(batch.samples), seed * NUM_STREAMS + stream, dtype=np.uint64) + GOLDEN)
    for part_B in (batch.epochs, batch.samples):
        key_B = mix(key_B ^ (part_B.astype(np.uint64) + GOLDEN))
    counter_T = np.arange(batch.ids.shape[1], dtype=np.uint64) * GOLDEN
    return mix(key_B[:, None] + counter_T[None, :])


def mask_tokens(
    batch: Batch, seed: int, vocab_size: int, mask_prob: float, mask_token_prob: float, random_token_prob: float
) -> Masked:
    """Hide round(mask_prob x n) of each block's n ordinary tokens, at least one.

    Of those, a share `mask_token_prob` becomes [MASK], `random_token_prob` a random ordinary token, the rest stays.
    """
    ids_BT = batch.ids
    ordinary_BT = ids_BT >= NUM_SPECIAL
    num_ordinary_B = ordinary_BT.sum(axis=1)
    num_hidden_B = np.minimum(np.maximum(np.rint(mask_prob * num_ordinary_B), 1), num_ordinary_B)

    draw_BT = np.where(ordinary_BT, random_bits(batch, seed, stream=0) >> np.uint64(1), np.uint64(2**63))
    rank_BT = draw_BT.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    hidden_BT = rank_BT < num_hidden_B[:, None]

    fate_BT = random_bits(batch, seed, stream=1) / 2.0**64
    random_BT = NUM_SPECIAL + (random_bits(batch, seed, stream=2) % np.uint64(vocab_size - NUM_SPECIAL)).astype(
        np.int64
    )
    as_mask_BT = hidden_BT & (fate_BT < mask_token_prob)
    as_random_BT = hidden_BT & ~as_mask_BT & (fate_BT < mask_token_prob + random_token_prob)

    replaced_BT = np.where(as_mask_BT, MASK_ID, np.where(as_random_BT, random_BT, ids_BT))
    return Masked(replaced_BT, np.where(hidden_BT, ids_BT, IGNORED))
