"""Dynamic masking: 80/10/10, never over special tokens, a function of (seed, epoch, sample)."""

import numpy as np
import pytest

from reforge.batches import Batch
from reforge.objectives.masking import IGNORED, MASK_ID, NUM_SPECIAL, mask_tokens

VOCAB = 1000


def batch(num_samples: int = 200, num_tokens: int = 128, epoch: int = 0) -> Batch:
    ids = np.random.default_rng(3).integers(NUM_SPECIAL, VOCAB, (num_samples, num_tokens))
    ids[:, 0] = 2
    ids[:, 60] = 3
    ids[::3, 100:] = 0
    return Batch(ids, np.full(num_samples, epoch), np.arange(num_samples))


def mask(b: Batch, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    masked = mask_tokens(b, seed, VOCAB, mask_prob=0.15, mask_token_prob=0.8, random_token_prob=0.1)
    return masked.ids_BT, masked.targets_BT


def test_shares_are_80_10_10_of_15_percent() -> None:
    b = batch(2000)
    ids, targets = mask(b)
    hidden = targets != IGNORED
    ordinary = b.ids >= NUM_SPECIAL
    assert abs(hidden.sum() / ordinary.sum() - 0.15) < 0.003  # round(0.15 x 126) and round(0.15 x 98)
    kept = (ids == b.ids) & hidden
    as_mask = (ids == MASK_ID) & hidden
    as_random = hidden & ~kept & ~as_mask
    for share, expected in ((as_mask, 0.8), (as_random, 0.1), (kept, 0.1)):
        assert abs(share.sum() / hidden.sum() - expected) < 0.01
    assert ids[as_random].min() >= NUM_SPECIAL
    assert ids[as_random].max() < VOCAB


def test_exact_number_a_block_and_never_over_special_tokens_or_padding() -> None:
    b = batch()
    ids, targets = mask(b)
    ordinary = b.ids >= NUM_SPECIAL
    assert np.array_equal((targets != IGNORED).sum(1), np.rint(0.15 * ordinary.sum(1)))
    assert (targets[~ordinary] == IGNORED).all()
    assert np.array_equal(ids[~ordinary], b.ids[~ordinary])
    assert np.array_equal(targets[targets != IGNORED], b.ids[targets != IGNORED])


def test_a_function_of_seed_epoch_and_sample_alone() -> None:
    b = batch()
    ids, targets = mask(b)
    part = np.array([150, 3, 77])
    some_ids, some_targets = mask(Batch(b.ids[part], b.epochs[part], b.samples[part]))
    assert np.array_equal(some_ids, ids[part])
    assert np.array_equal(some_targets, targets[part])
    for other_ids, _ in (mask(b, seed=2), mask(batch(epoch=1))):
        assert (other_ids != ids).mean() > 0.1


def test_every_position_is_hidden_sooner_or_later() -> None:
    b = batch(8)
    ever = np.zeros_like(b.ids, dtype=bool)
    for epoch in range(100):
        ever |= mask(b._replace(epochs=np.full(8, epoch)))[1] != IGNORED
    assert np.array_equal(ever, b.ids >= NUM_SPECIAL)


@pytest.mark.parametrize("num_ordinary", [0, 1, 2])
def test_tiny_blocks_hide_one_token_where_there_is_one(num_ordinary: int) -> None:
    ids = np.zeros((1, 16), dtype=np.int64)
    ids[0, 1 : 1 + num_ordinary] = 10
    _, targets = mask(Batch(ids, np.zeros(1), np.zeros(1)))
    assert (targets != IGNORED).sum() == min(1, num_ordinary)
