"""Blocks of several sets as samples: read from the right set, shared by workers, with partners of their own set."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from reforge.batches import PackedSamples, Rows, Set, Shards
from reforge.batches.bucketing import DOCUMENT_DTYPE
from reforge.batches.shards import ShardWriter
from reforge.spec import UserError

T = 16
ID_DTYPE = np.dtype("<u4")


def shards(folder: Path, name: str, rows: np.ndarray, dtype: np.dtype[np.unsignedinteger]) -> Shards:
    writer = ShardWriter(folder, name, rows.shape[1], dtype, max_bytes=500)
    writer.write(rows)
    writer.close()
    return Shards([(folder / name, blocks) for name, blocks in writer.files], rows.shape[1], dtype)


def part(folder: Path, name: str, first: int, documents: list[int], weight: float = 1.0) -> Set:
    """Rows of the documents, whose every token is 1000 * its document + the row's index among all sets."""
    numbers = np.array(documents, dtype=np.int64)[:, None]
    rows = np.repeat(1000 * numbers + np.arange(first, first + len(documents))[:, None], T, axis=1)
    return Set(name, shards(folder, name, rows, ID_DTYPE), weight, shards(folder, f"{name}-d", numbers, DOCUMENT_DTYPE))


@pytest.fixture
def samples(tmp_path: Path) -> PackedSamples:
    """40 rows of documents 1 to 20, none, and 7 of documents 1 to 4, twice as often."""
    return PackedSamples(
        [
            part(tmp_path, "wiki", 0, [1 + n // 2 for n in range(40)]),
            part(tmp_path, "empty", 40, []),
            part(tmp_path, "news", 40, [1 + n // 2 for n in range(7)], weight=2),
        ]
    )


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_same_global_batches_on_any_number_of_workers(samples: PackedSamples, world_size: int) -> None:
    assert (len(samples), samples.num_tokens) == (47, 47 * T)
    for step in (*range(12), 1000):
        rows = pickle.loads(pickle.dumps(samples)).rows_at(9, step, 12 * T)
        whole = samples.read(rows, 9, partners=True)
        assert (whole.ids % 1000 == rows.samples[:, None]).all()
        ranks = [samples.read(rows.share(rank, world_size), 9, partners=True) for rank in range(world_size)]
        for got, expected in zip(zip(*(one[:4] for one in ranks), strict=True), whole[:4], strict=True):
            assert expected is not None
            assert np.concatenate([values for values in got if values is not None]).tolist() == expected.tolist()


def test_a_set_comes_as_often_as_it_weighs(samples: PackedSamples) -> None:
    assert samples.epoch_at(9, 6 * T) == 1
    rows = [samples.rows_at(1, step, 6 * T) for step in range(18)]
    indices, epochs = (np.concatenate([getattr(each, name) for each in rows]) for name in ("samples", "epochs"))
    assert np.bincount(indices).tolist() == [2] * 40 + [4] * 7
    assert sorted(zip(indices.tolist(), epochs.tolist(), strict=True)) == [
        *((index, epoch) for index in range(40) for epoch in range(2)),
        *((index, epoch) for index in range(40, 47) for epoch in range(4)),
    ]


def test_a_partner_is_of_another_document_of_the_same_set(samples: PackedSamples) -> None:
    samples.check(partners=True)
    every = np.arange(47)
    drawn = set()
    for epoch in range(50):
        partners = samples.partners(4, Rows(np.full(47, epoch), every, T))[:, 0]
        assert ((partners % 1000 < 40) == (every < 40)).all()
        assert (partners // 1000 != samples.blocks(every)[:, 0] // 1000).all()
        drawn |= set((partners % 1000).tolist())
    assert drawn == set(range(47))


def test_a_set_of_one_document_has_no_partners(tmp_path: Path) -> None:
    alone = PackedSamples([part(tmp_path, "wiki", 0, [1, 2]), part(tmp_path, "news", 2, [5, 5])])
    alone.check(partners=False)
    with pytest.raises(UserError, match="and news has only one"):
        alone.check(partners=True)


def test_a_row_outside_is_an_error(samples: PackedSamples) -> None:
    with pytest.raises(IndexError, match=r"0\.\.46"):
        samples.blocks(np.array([47]))
