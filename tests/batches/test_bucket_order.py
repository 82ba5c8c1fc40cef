"""The order of batches over buckets: every row once a permutation, no bucket ahead of another, any step at once."""

from collections import Counter

import numpy as np
import pytest

from reforge.batches.bucket_order import BucketOrder

CASES = [
    ([10], [4]),
    ([10], [10]),
    ([3], [64]),
    ([100, 37, 5, 1], [16, 8, 8, 4]),
    ([7, 7, 7], [2, 3, 7]),
    ([1, 1, 1], [5, 5, 5]),
]


@pytest.mark.parametrize(("num_rows", "batch_rows"), CASES)
def test_every_row_comes_once_a_permutation(num_rows: list[int], batch_rows: list[int]) -> None:
    order = BucketOrder(num_rows, batch_rows)
    seen: Counter[tuple[int, int, int]] = Counter()
    step = 0
    while order.epoch_at(step) < 12:
        bucket, epochs, rows = order.locate(5, step)
        assert len(rows) == min(num_rows[bucket], batch_rows[bucket])
        seen.update((bucket, epoch, row) for epoch, row in zip(epochs.tolist(), rows.tolist(), strict=True))
        step += 1
        if order.epoch_at(step) == int(order.epoch_at(step)):  # at the end of an epoch: less than a batch is left over
            epochs_done = int(order.epoch_at(step))
            for number, (size, batch) in enumerate(zip(num_rows, batch_rows, strict=True)):
                used = sum(times for (bucket, _, _), times in seen.items() if bucket == number)
                assert 0 <= epochs_done * size - used < min(size, batch)
    for number, size in enumerate(num_rows):
        for epoch in range(11):
            assert {row for bucket, e, row in seen if (bucket, e) == (number, epoch)} == set(range(size))
    assert set(seen.values()) == {1}


def test_left_over_rows_open_the_next_epochs_batches() -> None:
    order = BucketOrder([10], [4])
    epochs = [order.locate(1, step)[1] for step in range(5)]
    assert [order.epoch_at(step) for step in (0, 1, 2, 5)] == [0, 0.5, 1, 2]  # of 2 batches, then of 3
    assert np.concatenate(epochs[:2]).tolist() == [0] * 8
    assert sorted(np.concatenate(epochs[2:])) == [0] * 2 + [1] * 10


def test_batches_of_all_buckets_are_mixed_anew_every_epoch() -> None:
    order = BucketOrder([64, 64, 64], [1, 1, 1])
    buckets = np.array([order.locate(3, step)[0] for step in range(2 * 192)]).reshape(2, 192)
    assert (np.sort(buckets) == np.repeat([0, 1, 2], 64)).all()
    assert not (buckets[0] == buckets[1]).all()
    assert not (buckets[0] == [order.locate(4, step)[0] for step in range(192)]).all()
    assert np.mean(buckets[0][1:] == buckets[0][:-1]) == pytest.approx(1 / 3, abs=0.12)
    first_rows = [[order.locate(3, s)[2][0] for s in range(192) if buckets[0][s] == b] for b in range(3)]
    assert first_rows[0] != first_rows[1] != first_rows[2]  # buckets of one size are not in the same order


def test_a_curriculum_goes_through_the_buckets_once_and_changes_no_row_of_a_batch() -> None:
    plain, ordered = (BucketOrder([64, 30, 7], [4, 4, 4], curriculum=curriculum) for curriculum in (False, True))
    epoch_0, later = range(16 + 7 + 1), range(24, 60)
    buckets = [ordered.locate(3, step)[0] for step in epoch_0]
    assert buckets == [2] * 1 + [1] * 7 + [0] * 16
    batches = [
        sorted((bucket, *rows) for bucket, _, rows in (order.locate(3, step) for step in epoch_0))
        for order in (plain, ordered)
    ]
    assert str(batches[0]) == str(batches[1])
    for step in later:
        for values, expected in zip(ordered.locate(3, step), plain.locate(3, step), strict=True):
            assert np.array_equal(values, expected)


def test_a_late_step_of_a_huge_corpus_costs_nothing() -> None:
    order = BucketOrder([10**12, 10**11, 3], [1000, 500, 2000])
    bucket, epochs, rows = order.locate(1, 10**15)
    assert order.epoch_at(10**15) == pytest.approx(10**15 / (10**9 + 2 * 10**8 + 1), rel=1e-9)
    assert len(set(rows.tolist())) == len(rows) == order.batch_rows[bucket]
    assert (np.abs(epochs - order.epoch_at(10**15)) <= 1).all()
