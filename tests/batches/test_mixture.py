"""Weighted sets: how often each comes, the same order as without weights, and any step at once."""

from collections import Counter

import numpy as np
import pytest

from reforge.batches.mixture import Mixture, global_samples

NAMES = ["wiki", "news", "letters", "notes"]
SIZES = [40, 13, 30, 1]
WEIGHTS = [1.0, 2.0, 0.5, 0.2]
COUNTS = [40, 26, 15, 1]  # a set has a block an epoch at least


def mixture() -> Mixture:
    return Mixture(NAMES, SIZES, WEIGHTS)


def order(of: Mixture, num_epochs: int, seed: int = 3) -> list[tuple[int, int]]:
    """Set's epoch and index of every block of the first epochs, which end with a step."""
    parts = [of.locate(seed, step, of.epoch_blocks) for step in range(num_epochs)]
    epochs, indices = (np.concatenate(each) for each in zip(*parts, strict=True))
    return list(zip(epochs.tolist(), indices.tolist(), strict=True))


def set_of(index: int) -> int:
    return int(np.searchsorted(np.cumsum(SIZES), index, side="right"))


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_one_set_has_the_order_of_its_blocks(size: int) -> None:
    for weight in (1.0, 1.0 + 0.1 / size):
        for step in (0, 1, 2, 70, 10**9):
            got = Mixture(["only"], [size], [weight]).locate(5, step, 12)
            for values, expected in zip(got, global_samples(size, 5, step, 12), strict=True):
                assert values.tolist() == expected.tolist()


def test_every_epoch_has_as_many_blocks_of_a_set_as_it_weighs() -> None:
    blocks = order(mixture(), 8)
    for epoch in range(8):
        seen = Counter(set_of(index) for _, index in blocks[82 * epoch : 82 * (epoch + 1)])
        assert [seen[number] for number in range(4)] == COUNTS


def test_a_set_is_used_up_before_any_of_its_blocks_comes_again() -> None:
    blocks = order(mixture(), 8)
    assert len(set(blocks)) == len(blocks)  # never a block twice in a permutation
    for number, (size, count) in enumerate(zip(SIZES, COUNTS, strict=True)):
        for epoch in range(8 * count // size):
            assert sum(e == epoch and set_of(index) == number for e, index in blocks) == size
        for num_epochs in range(1, 9):
            times = Counter(index for _, index in blocks[: 82 * num_epochs] if set_of(index) == number)
            assert max(times.values()) == -(-num_epochs * count // size)


def test_sets_are_mixed_and_in_another_order_every_epoch() -> None:
    blocks = [index for _, index in order(mixture(), 2)]
    sets = np.array([set_of(index) for index in blocks]).reshape(2, -1)
    assert (np.sort(sets) == np.repeat(range(4), COUNTS)).all()
    assert not (sets[0] == sets[1]).all()
    assert (sets[0][1:] != sets[0][:-1]).mean() > 0.4
    assert blocks[:82] != [index for _, index in order(mixture(), 1, seed=4)]


def test_a_set_has_the_same_order_whatever_is_beside_it() -> None:
    alone = Mixture(["letters"], [30], [0.5])
    in_company = Mixture(["letters", "wiki"], [30, 40], [0.5, 1.0])
    for epoch in range(4):
        start, length = (epoch * 15, 15)
        assert {index for _, index in order(alone, 4)[start : start + length]} == {
            index for _, index in order(in_company, 4)[epoch * 55 : epoch * 55 + 55] if index < 30
        }


@pytest.mark.parametrize("global_batch", [1, 5, 82, 5000])
def test_a_step_is_a_slice_of_one_stream(global_batch: int) -> None:
    of = mixture()
    stream = [np.concatenate(each) for each in zip(*(of.locate(1, step, 1) for step in range(5000)), strict=True)]
    for step in sorted({0, 1, 7, 5000 // global_batch - 1} & set(range(5000 // global_batch))):
        got = mixture().locate(1, step, global_batch)  # as another process would ask
        for values, whole in zip(got, stream, strict=True):
            assert values.tolist() == whole[step * global_batch : (step + 1) * global_batch].tolist()


def test_a_late_step_of_a_huge_mixture_costs_nothing() -> None:
    huge = Mixture(["a", "b"], [10**11, 10**9], [1.0, 3.0])
    epochs, indices = huge.locate(1, 10**12, 64)
    assert len(set(indices.tolist())) == 64
    passes = 64 * 10**12 / huge.epoch_blocks
    for epoch, index in zip(epochs, indices, strict=True):
        assert abs(epoch - passes * (1 if index < 10**11 else 3)) < 4
