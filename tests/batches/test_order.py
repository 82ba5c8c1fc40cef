"""The order of samples: a permutation of every epoch, and one sequence of global batches for any number of workers."""

from itertools import pairwise

import numpy as np
import pytest

from reforge.batches import global_samples
from reforge.batches.order import Ints, permute


def epoch_order(n: int, seed: int = 1, epoch: int = 0) -> Ints:
    return permute(np.arange(n), n, seed, np.full(n, epoch))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 16, 17, 100, 255, 256, 257, 1000, 65_537])
def test_every_block_comes_once_an_epoch(n: int) -> None:
    for seed, epoch in ((0, 0), (1, 0), (-7, 3)):
        assert sorted(epoch_order(n, seed, epoch)) == list(range(n))


def test_any_epoch_and_any_seed_give_another_order() -> None:
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16
    assert orders[0] == tuple(epoch_order(50, 0, 0))


@pytest.mark.parametrize("n", [3, 7, 64])
def test_every_place_is_as_likely_for_every_block(n: int) -> None:
    epochs = 200 * n
    positions = np.tile(np.arange(n), epochs)
    values = permute(positions, n, 5, np.repeat(np.arange(epochs), n))
    counts = np.zeros((n, n))
    np.add.at(counts, (positions, values), 1)
    chi_squared = ((counts - 200) ** 2 / 200).sum()
    degrees = (n - 1) ** 2
    assert abs(chi_squared - degrees) < 6 * (2 * degrees) ** 0.5


def test_neighbours_do_not_stay_neighbours() -> None:
    order = epoch_order(10_000)
    assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.05
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert np.mean([abs(a - b) == 1 for a, b in pairwise(order)]) < 0.01


def test_steps_walk_through_epoch_after_epoch() -> None:
    steps = [global_samples(10, 3, step, 4) for step in range(10)]
    epochs = np.concatenate([epochs for epochs, _ in steps])
    samples = np.concatenate([samples for _, samples in steps])
    assert list(epochs) == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    for epoch in range(4):
        assert list(samples[epochs == epoch]) == list(epoch_order(10, 3, epoch))


def test_a_global_batch_may_be_larger_than_the_corpus() -> None:
    epochs, samples = global_samples(3, 1, 5, 8)
    assert list(epochs) == [13, 13, 14, 14, 14, 15, 15, 15]
    assert sorted(samples[2:5]) == [0, 1, 2]


def test_a_late_step_of_a_huge_corpus_costs_nothing() -> None:
    epochs, samples = global_samples(10**12, 1, 10**13, 1000)
    assert set(epochs) == {10_000}
    assert len(set(samples)) == 1000
    assert samples.max() < 10**12
