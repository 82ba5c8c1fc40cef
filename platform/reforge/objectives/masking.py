"""Dynamic masking (Devlin et al. 2019, Liu et al. 2019), drawn without replacement and without a random state.

Every draw is a hash of (seed, epoch, sample, position): the same on any number of workers, in any batch, after any
resume, and new in every epoch. Shapes: B batch, T tokens.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reforge.batches import Batch
from reforge.batches.order import GOLDEN, Words, mix
from reforge.objectives.objective import ObjectiveOptions
from reforge.spec import Problem
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

PAD_ID = SPECIAL_TOKENS.index("[PAD]")
MASK_ID = SPECIAL_TOKENS.index("[MASK]")
IGNORED = -100
NUM_STREAMS = 8  # at most so many independent draws a token
CHOICE, FATE, RANDOM_TOKEN, BOUNDARY, PAIRS = range(5)


class Masked(NamedTuple):
    """Ids with some replaced [B, T], and the original ids where a guess is asked for, IGNORED elsewhere [B, T]."""

    ids_BT: np.ndarray
    targets_BT: np.ndarray

    def tensors(self) -> dict[str, Tensor]:
        """`ids_BT`; `places_N`, the targets' places in the flattened batch; `targets_N`, the ids that were there."""
        places_N = np.flatnonzero(self.targets_BT != IGNORED)
        return {
            "ids_BT": torch.from_numpy(self.ids_BT),
            "places_N": torch.from_numpy(places_N),
            "targets_N": torch.from_numpy(self.targets_BT.reshape(-1)[places_N]),
        }


def random_bits(batch: Batch, seed: int, stream: int, num_draws: int | None = None) -> Words:
    """Uniform uint64 [B, T], or [B, num_draws], as a function of (seed, stream, epoch, sample, position)."""
    key_B = mix(np.full(len(batch.samples), seed * NUM_STREAMS + stream, dtype=np.uint64) + GOLDEN)
    for part_B in (batch.epochs, batch.samples):
        key_B = mix(key_B ^ (part_B.astype(np.uint64) + GOLDEN))
    counter_T = np.arange(batch.ids.shape[1] if num_draws is None else num_draws, dtype=np.uint64) * GOLDEN
    return mix(key_B[:, None] + counter_T[None, :])


def random_shares(batch: Batch, seed: int, stream: int, num_draws: int | None = None) -> np.ndarray:
    """The same draws as float64 in [0, 1)."""
    # As many bits as a float64 holds: more would round up to 1.
    shares: np.ndarray = (random_bits(batch, seed, stream, num_draws) >> np.uint64(11)) / 2.0**53
    return shares


class MaskingOptions(ObjectiveOptions):
    """round(`mask_prob` x n) of a block's n ordinary tokens are hidden, at least one.

    Of those a share `mask_token_prob` becomes [MASK], `random_token_prob` a random ordinary token, the rest stays.
    whole_words: hide all tokens of a word or none; their number is then the same in the mean, not in every block
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
        words_BT = word_starts(ids_BT, vocabulary) if self.whole_words else None
        hidden_BT = _choose(batch, seed, self.mask_prob, vocabulary.num_special, words_BT)
        fate_BT = random_shares(batch, seed, FATE)
        first = vocabulary.num_special
        num_ordinary = np.uint64(vocabulary.size - first)
        random_BT = first + (random_bits(batch, seed, RANDOM_TOKEN) % num_ordinary).astype(np.int64)
        as_mask_BT = hidden_BT & (fate_BT < self.mask_token_prob)
        as_random_BT = hidden_BT & ~as_mask_BT & (fate_BT < self.mask_token_prob + self.random_token_prob)
        replaced_BT = np.where(as_mask_BT, MASK_ID, np.where(as_random_BT, random_BT, ids_BT))
        return Masked(replaced_BT, np.where(hidden_BT, ids_BT, IGNORED))


def _choose(batch: Batch, seed: int, mask_prob: float, num_special: int, starts_BT: np.ndarray | None) -> np.ndarray:
    """Which tokens are hidden [B, T]: those that come first in a random order of the ordinary tokens, or words.

    starts_BT: position of the first token of each token's word; None where tokens are chosen one by one
    """
    ordinary_BT = batch.ids >= num_special
    num_ordinary_B = ordinary_BT.sum(axis=1)
    num_hidden_B = np.minimum(np.maximum(np.rint(mask_prob * num_ordinary_B), 1), num_ordinary_B)
    draw_BT = random_bits(batch, seed, CHOICE) >> np.uint64(1)
    if starts_BT is not None:
        draw_BT = np.take_along_axis(draw_BT, starts_BT, axis=1)  # a word's tokens draw the same: they stay together
    draw_BT = np.where(ordinary_BT, draw_BT, np.uint64(2**63))
    rank_BT: np.ndarray = draw_BT.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    if starts_BT is not None:
        # The word on the boundary is in by the share of it that is inside: so the number is right in the mean.
        cut_BT = random_shares(batch, seed, BOUNDARY) * _word_lengths(starts_BT)
        rank_BT = np.take_along_axis(rank_BT + cut_BT, starts_BT, axis=1)
    hidden_BT: np.ndarray = ordinary_BT & (rank_BT < num_hidden_B[:, None])
    return hidden_BT


def word_starts(ids_BT: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Position of the first token of each token's word [B, T]; a special token is a word of its own."""
    ordinary_BT = ids_BT >= vocabulary.num_special
    begins_BT = ~(ordinary_BT & vocabulary.continues_V[ids_BT])
    begins_BT[:, 1:] |= ~ordinary_BT[:, :-1]
    begins_BT[:, 0] = True
    positions_BT = np.where(begins_BT, np.arange(ids_BT.shape[1]), 0)
    starts_BT: np.ndarray = np.maximum.accumulate(positions_BT, axis=1)
    return starts_BT


def _word_lengths(starts_BT: np.ndarray) -> np.ndarray:
    """Number of tokens of each token's word [B, T]."""
    num_rows, num_tokens = starts_BT.shape
    flat = (np.arange(num_rows)[:, None] * num_tokens + starts_BT).reshape(-1)
    lengths_BT: np.ndarray = np.bincount(flat, minlength=flat.size)[flat].reshape(starts_BT.shape)
    return lengths_BT
