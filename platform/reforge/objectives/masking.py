"""Dynamic masking (Devlin et al. 2019, Liu et al. 2019), drawn without replacement and without a random state.

Every draw is a hash of (seed, epoch, sample, position): the same on any number of workers, in any batch, after any
resume, and new in every epoch. Shapes: B batch, T tokens.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from pydantic import Field

from reforge.batches import Batch
from reforge.batches.order import GOLDEN, Words, mix
from reforge.objectives.objective import ObjectiveOptions
from reforge.spec import Problem
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

PAD_ID = SPECIAL_TOKENS.index("[PAD]")
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


class MaskingOptions(ObjectiveOptions):
    """round(`mask_prob` x n) of a block's n ordinary tokens are hidden, at least one.

    Of those a share `mask_token_prob` becomes [MASK], `random_token_prob` a random ordinary token, the rest stays.
    whole_words: hide all tokens of a word together; their number then comes as near as whole words can
    """

    mask_prob: float = Field(0.15, gt=0, lt=1)
    mask_token_prob: float = Field(0.8, ge=0, le=1)
    random_token_prob: float = Field(0.1, ge=0, le=1)
    whole_words: bool = False

    def problems(self) -> Iterator[Problem]:
        """The two shares are shares of one whole."""
        if self.mask_token_prob + self.random_token_prob > 1:
            rule = f"must be at most 1 - mask_token_prob ({1 - self.mask_token_prob:g})"
            yield Problem(("random_token_prob",), rule, self.random_token_prob)

    @property
    def target_share(self) -> float:
        """Logits are computed at the masked positions only."""
        return self.mask_prob

    def mask(self, batch: Batch, seed: int, vocabulary: Vocabulary) -> Masked:
        """`batch` with some of its ordinary tokens hidden."""
        ids_BT = batch.ids
        hidden_BT = _choose(batch, seed, self.mask_prob, vocabulary.continues_V[ids_BT] if self.whole_words else None)
        fate_BT = random_bits(batch, seed, stream=1) / 2.0**64
        num_ordinary = np.uint64(vocabulary.size - NUM_SPECIAL)
        random_BT = NUM_SPECIAL + (random_bits(batch, seed, stream=2) % num_ordinary).astype(np.int64)
        as_mask_BT = hidden_BT & (fate_BT < self.mask_token_prob)
        as_random_BT = hidden_BT & ~as_mask_BT & (fate_BT < self.mask_token_prob + self.random_token_prob)
        replaced_BT = np.where(as_mask_BT, MASK_ID, np.where(as_random_BT, random_BT, ids_BT))
        return Masked(replaced_BT, np.where(hidden_BT, ids_BT, IGNORED))


def _choose(batch: Batch, seed: int, mask_prob: float, continues_BT: np.ndarray | None) -> np.ndarray:
    """Which tokens are hidden [B, T]: those that come first in a random order of the ordinary tokens, or words."""
    ordinary_BT = batch.ids >= NUM_SPECIAL
    num_ordinary_B = ordinary_BT.sum(axis=1)
    num_hidden_B = np.minimum(np.maximum(np.rint(mask_prob * num_ordinary_B), 1), num_ordinary_B)
    draw_BT = random_bits(batch, seed, stream=0) >> np.uint64(1)
    starts_BT = None if continues_BT is None else _word_starts(ordinary_BT, continues_BT)
    if starts_BT is not None:
        draw_BT = np.take_along_axis(draw_BT, starts_BT, axis=1)  # a word's tokens draw the same: they stay together
    draw_BT = np.where(ordinary_BT, draw_BT, np.uint64(2**63))
    rank_BT = draw_BT.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    if starts_BT is None:
        return ordinary_BT & (rank_BT < num_hidden_B[:, None])
    # A word is hidden where its middle is: as many are too many as too few, and the number is right in the mean.
    first_BT = np.take_along_axis(rank_BT, starts_BT, axis=1)
    length_BT = _word_lengths(starts_BT)
    inside_BT = first_BT + (length_BT - 1) / 2 < num_hidden_B[:, None] - 0.25
    return ordinary_BT & (inside_BT | (first_BT == 0))


def _word_starts(ordinary_BT: np.ndarray, continues_BT: np.ndarray) -> np.ndarray:
    """Position of the first token of each token's word [B, T]; a special token is a word of its own."""
    after_ordinary_BT = np.zeros_like(ordinary_BT)
    after_ordinary_BT[:, 1:] = ordinary_BT[:, :-1]
    begins_BT = ~(ordinary_BT & continues_BT & after_ordinary_BT)
    positions_BT = np.broadcast_to(np.arange(ordinary_BT.shape[1]), ordinary_BT.shape)
    starts_BT: np.ndarray = np.maximum.accumulate(np.where(begins_BT, positions_BT, 0), axis=1)
    return starts_BT


def _word_lengths(starts_BT: np.ndarray) -> np.ndarray:
    """Number of tokens of each token's word [B, T]."""
    num_tokens = starts_BT.shape[1]
    flat = (np.arange(len(starts_BT))[:, None] * num_tokens + starts_BT).reshape(-1)
    return np.bincount(flat, minlength=flat.size)[flat].reshape(starts_BT.shape)
