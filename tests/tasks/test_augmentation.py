"""Augmentation: what it leaves alone, on what alone it depends, and how often it does what it says."""

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from reforge.batches import Batch
from reforge.tasks.augmentation import Augmentation
from reforge.tokenizers import SPECIAL_TOKENS

PAD, CLS, SEP, MASK = (SPECIAL_TOKENS.index(name) for name in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
FIRST = len(SPECIAL_TOKENS)
ALL = Augmentation(mask_prob=0.2, delete_prob=0.2, swap_prob=0.2)


def batch(lengths: tuple[tuple[int, int], ...], epoch: int = 0, width: int = 48) -> Batch:
    """Pairs of texts of the given numbers of tokens, each token once in its row."""
    ids, segments = np.zeros((len(lengths), width), np.int64), np.zeros((len(lengths), width), np.int8)
    for row, (first, second) in enumerate(lengths):
        tokens = np.arange(FIRST, FIRST + first + second)
        ids[row, : first + second + 3] = [CLS, *tokens[:first], SEP, *tokens[first:], SEP]
        segments[row, first + 2 : first + second + 3] = 1
    count = len(lengths)
    return Batch(ids, np.full(count, epoch), np.arange(count), None, {"segments": segments})


def texts(ids: np.ndarray) -> list[list[int]]:
    """The two texts of a row."""
    real = ids[ids != PAD].tolist()
    middle = real.index(SEP)
    assert real[0] == CLS
    assert real[-1] == SEP
    return [real[1:middle], real[middle + 1 : -1]]


def test_no_token_leaves_its_text_and_the_frame_and_segments_follow() -> None:
    given = batch(((5, 3), (20, 25), (1, 1), (0, 4), (0, 0)))
    for seed in range(20):
        changed = ALL.change(given, seed, FIRST)
        for before, after, segments in zip(given.ids, changed.ids, changed.extras["segments"], strict=True):
            for old, new in zip(texts(before), texts(after), strict=True):
                assert set(new) <= {*old, MASK}
                assert bool(old) == bool(new)
            behind_first = np.cumsum(after == SEP) - (after == SEP)
            np.testing.assert_array_equal(segments, (behind_first > 0) & (after != PAD))


def test_the_same_sample_changes_the_same_in_any_batch_and_anew_in_each_epoch_and_seed() -> None:
    given = batch(((20, 20), (15, 9), (8, 30)))
    alone = Batch(given.ids[1:2, :30], given.epochs[1:2], given.samples[1:2], None, {})
    changed = ALL.change(given, 7, FIRST).ids[1]
    np.testing.assert_array_equal(ALL.change(alone, 7, FIRST).ids[0], changed[:30])
    assert (ALL.change(given._replace(epochs=given.epochs + 1), 7, FIRST).ids[1] != changed).any()
    assert (ALL.change(given, 8, FIRST).ids[1] != changed).any()


def test_validation_is_left_alone_also_beside_training_rows() -> None:
    given = batch(((20, 20), (20, 20)))._replace(epochs=np.array([-1, 0]))
    changed = ALL.change(given, 1, FIRST)
    np.testing.assert_array_equal(changed.ids[0], given.ids[0])
    assert (changed.ids[1] != given.ids[1]).any()


def test_by_default_nothing_changes() -> None:
    given = batch(((20, 20),))
    assert Augmentation().change(given, 1, FIRST) is given


def test_deletion_never_empties_a_text_of_ordinary_tokens() -> None:
    given = batch(((1, 3),) * 200)
    changed = Augmentation(delete_prob=0.95).change(given, 1, FIRST)
    lengths = Counter(len(text) for row in changed.ids for text in texts(row))
    assert set(lengths) <= {1, 2, 3}
    assert lengths[1] > 350


@pytest.mark.parametrize("prob", [0.1, 0.4])
def test_the_shares_are_those_that_were_asked_for(prob: float) -> None:
    given = batch(((20, 25),) * 400)
    num_tokens = 400 * 45
    masked = Augmentation(mask_prob=prob).change(given, 1, FIRST).ids
    assert (masked == MASK).sum() / num_tokens == pytest.approx(prob, abs=0.01)
    left = Augmentation(delete_prob=prob).change(given, 1, FIRST).ids
    assert (left >= FIRST).sum() / num_tokens == pytest.approx(1 - prob, abs=0.01)


def test_a_swap_is_of_neighbours_and_moves_a_token_once() -> None:
    given = batch(((20, 25),) * 100)
    changed = Augmentation(swap_prob=0.5).change(given, 1, FIRST).ids
    moved = changed - given.ids
    assert set(np.unique(moved)) == {-1, 0, 1}
    np.testing.assert_array_equal(np.sort(changed, axis=1), np.sort(given.ids, axis=1))
    # Of runs of neighbours that draw a swap every other one begins one: p / (1 + p) of all tokens.
    assert (moved == 1).sum() / (100 * 43) == pytest.approx(0.5 / 1.5, abs=0.02)


def test_a_share_is_below_one() -> None:
    with pytest.raises(ValidationError):
        Augmentation(delete_prob=1.0)
