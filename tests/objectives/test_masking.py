"""Dynamic masking: 80/10/10, never over special tokens, a function of (seed, epoch, sample)."""

import numpy as np
import pytest

from reforge.batches import Batch
from reforge.objectives.masking import (
    CHOICE,
    IGNORED,
    MASK_ID,
    PAIRS,
    random_bits,
    random_shares,
    word_starts,
)
from reforge.objectives.mlm import MaskedLMOptions
from reforge.tokenizers import Vocabulary

VOCAB = 1000
PLAIN = Vocabulary.plain(VOCAB)
# Two tokens of three go on with a word.
PIECES = Vocabulary(VOCAB, continues_V=np.arange(VOCAB) % 3 > 0, ends_sentence_V=np.zeros(VOCAB, dtype=bool))


def batch(num_samples: int = 200, num_tokens: int = 128, epoch: int = 0) -> Batch:
    ids = np.random.default_rng(3).integers(PLAIN.num_special, VOCAB, (num_samples, num_tokens))
    ids[:, 0] = 2
    ids[:, 60] = 3
    ids[::3, 100:] = 0
    return Batch(ids, np.full(num_samples, epoch), np.arange(num_samples))


def mask(b: Batch, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    masked = MaskedLMOptions().mask(b, seed, PLAIN)
    return masked.ids_BT, masked.targets_BT


def hide_words(b: Batch, seed: int = 1, mask_prob: float = 0.15) -> np.ndarray:
    """Which tokens are hidden where words are hidden whole."""
    hidden: np.ndarray = (
        MaskedLMOptions(whole_words=True, mask_prob=mask_prob).mask(b, seed, PIECES).targets_BT != IGNORED
    )
    return hidden


def test_shares_are_80_10_10_of_15_percent() -> None:
    b = batch(2000)
    ids, targets = mask(b)
    hidden = targets != IGNORED
    ordinary = b.ids >= PLAIN.num_special
    assert abs(hidden.sum() / ordinary.sum() - 0.15) < 0.003  # round(0.15 x 126) and round(0.15 x 98)
    kept = (ids == b.ids) & hidden
    as_mask = (ids == MASK_ID) & hidden
    as_random = hidden & ~kept & ~as_mask
    for share, expected in ((as_mask, 0.8), (as_random, 0.1), (kept, 0.1)):
        assert abs(share.sum() / hidden.sum() - expected) < 0.01
    assert ids[as_random].min() >= PLAIN.num_special
    assert ids[as_random].max() < VOCAB


def test_exact_number_a_block_and_never_over_special_tokens_or_padding() -> None:
    b = batch()
    ids, targets = mask(b)
    ordinary = b.ids >= PLAIN.num_special
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
    assert np.array_equal(ever, b.ids >= PLAIN.num_special)


@pytest.mark.parametrize("num_ordinary", [0, 1, 2])
def test_tiny_blocks_hide_one_token_where_there_is_one(num_ordinary: int) -> None:
    ids = np.zeros((1, 16), dtype=np.int64)
    ids[0, 1 : 1 + num_ordinary] = 10
    _, targets = mask(Batch(ids, np.zeros(1), np.zeros(1)))
    assert (targets != IGNORED).sum() == min(1, num_ordinary)


def test_targets_as_tensors_are_places_in_the_flattened_batch() -> None:
    masked = MaskedLMOptions().mask(batch(), 1, PLAIN)
    tensors = masked.tensors()
    places, targets = tensors["places_N"].numpy(), tensors["targets_N"].numpy()
    assert (np.diff(places) > 0).all()
    assert np.array_equal(masked.targets_BT.reshape(-1)[places], targets)
    assert len(places) == (masked.targets_BT != IGNORED).sum()
    assert np.array_equal(tensors["ids_BT"].numpy(), masked.ids_BT)


def test_words_begin_where_a_token_does_not_go_on_with_the_one_before_it() -> None:
    #              [CLS] word  ##   ##  word word  ## [SEP]  ##   ## [UNK]  ## [PAD]
    ids = np.array([[2, 9, 10, 11, 12, 15, 16, 3, 10, 11, 1, 10, 0]])
    assert word_starts(ids, PIECES).tolist() == [[0, 1, 1, 1, 4, 5, 5, 7, 8, 8, 10, 11, 12]]
    assert word_starts(np.array([[10, 10, 12]]), PIECES).tolist() == [[0, 0, 2]]  # a block cut inside a word


def test_tokens_of_a_word_are_hidden_together_or_not_at_all() -> None:
    b = batch()
    hidden = hide_words(b)
    starts = word_starts(b.ids, PIECES)
    assert np.array_equal(hidden, np.take_along_axis(hidden, starts, axis=1))
    assert not hidden[b.ids < PLAIN.num_special].any()
    assert (np.unique(starts[0], return_counts=True)[1] > 1).any()


@pytest.mark.parametrize("mask_prob", [0.02, 0.15, 0.5])
def test_with_whole_words_the_mean_number_hidden_is_right(mask_prob: float) -> None:
    b = batch(4000)
    ordinary = (b.ids >= PLAIN.num_special).sum(1)
    wanted = np.rint(mask_prob * ordinary)
    got = hide_words(b, mask_prob=mask_prob).sum(1)
    standard_error = (got - wanted).std() / np.sqrt(len(got))
    assert abs((got - wanted).mean()) < 4 * standard_error < 0.2
    longest = max(np.unique(word_starts(b.ids, PIECES)[0], return_counts=True)[1].max(), 30)
    assert np.abs(got - wanted).max() < longest  # only the word on the boundary is too much or missing


def test_words_long_and_short_are_hidden_as_often() -> None:
    # Words of 1, 2 and 4 tokens: a token's chance is the same in all of them, but for length / block length.
    ids = np.tile([9, 9, 10, 9, 10, 11, 13], (1, 60))
    b = Batch(np.repeat(ids, 2000, axis=0), np.zeros(2000, dtype=np.int64), np.arange(2000))
    shares = hide_words(b).mean(0).reshape(-1, 7).mean(0)
    expected = round(0.15 * ids.size) / ids.size
    np.testing.assert_allclose(shares, expected, rtol=0.03)


def test_whole_words_are_a_function_of_seed_epoch_and_sample_alone() -> None:
    b = batch()
    hidden = hide_words(b)
    part = np.array([150, 3, 77])
    assert np.array_equal(hide_words(Batch(b.ids[part], b.epochs[part], b.samples[part])), hidden[part])
    for other in (hide_words(b, seed=2), hide_words(batch(epoch=1))):
        assert (other != hidden).mean() > 0.1


def test_without_pieces_whole_words_are_tokens() -> None:
    b = batch()
    whole = MaskedLMOptions(whole_words=True).mask(b, 1, PLAIN)
    single = MaskedLMOptions().mask(b, 1, PLAIN)
    assert np.array_equal(whole.targets_BT, single.targets_BT)


def test_draws_are_uniform_and_streams_apart() -> None:
    b = batch(500)
    shares = random_shares(b, 1, CHOICE)
    assert 0 <= shares.min() < 1e-3 < 0.999 < shares.max() < 1
    assert abs(shares.mean() - 0.5) < 0.005
    other = random_shares(b, 1, PAIRS)
    assert abs(np.corrcoef(shares.ravel(), other.ravel())[0, 1]) < 0.02
    assert np.array_equal(random_bits(b, 1, PAIRS, num_draws=2), random_bits(b, 1, PAIRS)[:, :2])
