"""Rows in batches of similar length: each once an epoch, each with what is its own."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from reforge.tasks import Row, RowSet
from reforge.tasks.row_set import CHUNK_BATCHES


def make_rows(sizes: Sequence[int]) -> list[Row]:
    """A row of each size; what is in it tells which it is."""
    return [
        Row(
            example=number,
            ids=np.arange(1, size + 1) + 100 * number,
            segments=np.arange(size) % 2,
            extras={"label": np.array(number % 3), "places": np.arange(1, number % 4 + 1)},
        )
        for number, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return make_rows([int(size) for size in np.random.default_rng(0).integers(3, 60, 203)])


@pytest.fixture(scope="module")
def row_set(rows: list[Row]) -> RowSet:
    return RowSet(rows)


def epoch_of(row_set: RowSet, epoch: int, seed: int = 1, batch: int = 8) -> list[np.ndarray]:
    steps = row_set.steps_in_epoch(batch)
    return [row_set.rows_at(seed, epoch * steps + step, batch).samples for step in range(steps)]


@pytest.mark.parametrize("batch", [1, 8, 203, 500])
def test_every_row_comes_once_in_each_epoch(row_set: RowSet, batch: int) -> None:
    for epoch in (0, 3):
        batches = epoch_of(row_set, epoch, batch=batch)
        assert sorted(np.concatenate(batches).tolist()) == list(range(203))
        assert sorted({len(chosen) for chosen in batches}, reverse=True)[0] == min(batch, 203)
        assert sum(len(chosen) < batch for chosen in batches) <= 1


def test_the_order_is_a_function_of_seed_and_epoch(rows: list[Row], row_set: RowSet) -> None:
    again = RowSet(rows)
    later_first = [again.rows_at(1, 2 * again.steps_in_epoch(8), 8).samples, *epoch_of(again, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(later_first[1:], epoch_of(row_set, 0), strict=True))
    orders = [np.concatenate(epoch_of(row_set, *place)).tolist() for place in ((0, 1), (1, 1), (0, 2))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_the_shares_of_all_ranks_are_the_batch(row_set: RowSet, size: int) -> None:
    for step in range(row_set.steps_in_epoch(8)):
        rows = row_set.rows_at(1, step, 8)
        shares = [rows.share(rank, size) for rank in range(size)]
        assert np.array_equal(np.concatenate([share.samples for share in shares]), rows.samples)
        assert {share.row_tokens for share in shares} == {rows.row_tokens}


def test_a_batch_holds_what_belongs_to_its_rows(rows: list[Row], row_set: RowSet) -> None:
    chosen = row_set.rows_at(1, 5, 8)
    batch = row_set.read(chosen, 1)
    assert batch.ids.shape == batch.extras["segments"].shape == (8, chosen.row_tokens)
    assert batch.ids.dtype == np.int64
    for place, index in enumerate(chosen.samples.tolist()):
        row = rows[row_set.order[index]]
        size, num_places = len(row.ids), len(row.extras["places"])
        assert batch.ids[place].tolist() == [*row.ids.tolist(), *[0] * (chosen.row_tokens - size)]
        assert row.segments is not None
        assert batch.extras["segments"][place, :size].tolist() == row.segments.tolist()
        assert not batch.extras["segments"][place, size:].any()
        assert batch.extras["label"][place] == row.extras["label"]
        assert batch.extras["places"][place].tolist()[:num_places] == row.extras["places"].tolist()
        assert not batch.extras["places"][place, num_places:].any()


def test_a_row_comes_back_as_it_was_given(rows: list[Row], row_set: RowSet) -> None:
    for index in range(len(row_set)):
        given, back = rows[row_set.order[index]], row_set.row(index)
        assert (back.example, back.ids.tolist()) == (given.example, given.ids.tolist())
        assert back.segments is not None
        assert given.segments is not None
        assert back.segments.tolist() == given.segments.tolist()
        assert {name: value.tolist() for name, value in back.extras.items()} == {
            name: value.tolist() for name, value in given.extras.items()
        }


def test_rows_of_similar_length_share_a_batch_and_batches_come_in_any_order() -> None:
    row_set = RowSet(make_rows([int(size) for size in np.random.default_rng(1).integers(3, 128, 3200)]))
    steps = [row_set.rows_at(1, step, 32) for step in range(row_set.steps_in_epoch(32))]
    padded = sum(rows.num_tokens for rows in steps)
    assert padded < 1.05 * row_set.num_tokens
    lengths = np.array([rows.row_tokens for rows in steps])
    halves = lengths[:CHUNK_BATCHES].mean(), lengths[CHUNK_BATCHES:].mean()
    assert max(halves) < 1.2 * min(halves)  # each chunk has texts of every length
    assert abs(np.corrcoef(lengths[:CHUNK_BATCHES], np.arange(CHUNK_BATCHES))[0, 1]) < 0.5


@pytest.mark.parametrize("max_tokens", [1, 59, 64, 300, 10**9])
def test_parts_cover_all_rows_within_the_limit(row_set: RowSet, max_tokens: int) -> None:
    parts = list(row_set.parts(row_set.all_indices, -1, max_tokens))
    assert np.array_equal(np.concatenate([part.samples for _, part in parts]), row_set.all_indices)
    assert [start for start, _ in parts] == np.cumsum([0, *(len(part.samples) for _, part in parts)])[:-1].tolist()
    for _, part in parts:
        assert part.row_tokens == row_set.lengths(part.samples).max()
        assert part.num_tokens <= max_tokens or len(part.samples) == 1
    for (_, part), (_, after) in pairwise(parts):  # one row more would have been too much
        assert (len(part.samples) + 1) * row_set.lengths(after.samples[:1]).item() > max_tokens


def test_nothing_is_read_where_there_is_nothing() -> None:
    empty = RowSet([])
    assert (len(empty), empty.num_tokens, list(empty.parts(empty.all_indices, -1, 64))) == (0, 0, [])
    row_set = RowSet(make_rows([3, 5]))
    nobody = row_set.read(row_set.rows_at(1, 0, 2).share(0, 3), 1)
    assert nobody.ids.shape == nobody.extras["segments"].shape == (0, 5)
    assert nobody.extras["label"].shape == (0,)


def test_the_fingerprint_changes_with_anything() -> None:
    rows = make_rows([4, 6, 9, 9])
    one = rows[2]
    assert one.segments is not None
    others = [
        rows[:3],
        [*rows[:2], rows[3], rows[2]],
        [*rows[:2], replace(one, ids=one.ids + 1), rows[3]],
        [*rows[:2], replace(one, ids=one.ids[:-1], segments=one.segments[:-1]), rows[3]],
        [*rows[:2], replace(one, segments=1 - one.segments), rows[3]],
        [*rows[:2], replace(one, extras={**one.extras, "label": np.array(7)}), rows[3]],
        [*rows[:2], replace(one, extras={**one.extras, "places": np.array([1, 3])}), rows[3]],
        [*rows[:2], replace(one, example=1), rows[3]],
        [replace(row, segments=None) for row in rows],
        [replace(row, extras={"class": row.extras["label"], "places": row.extras["places"]}) for row in rows],
    ]
    prints = [RowSet(changed).fingerprint() for changed in others]
    assert RowSet(make_rows([4, 6, 9, 9])).fingerprint() == RowSet(rows).fingerprint()
    assert len({RowSet(rows).fingerprint(), *prints}) == len(others) + 1
