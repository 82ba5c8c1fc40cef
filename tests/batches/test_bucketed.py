"""Bucketed samples: the same global batches for any number of workers, and partners of other documents only."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from reforge.batches import PackedSamples, Rows, Samples, Set, Shards
from reforge.batches.bucketed import Bucket, BucketedSamples
from reforge.batches.bucketing import DOCUMENT_DTYPE
from reforge.batches.packing import PAD
from reforge.batches.shards import ShardWriter
from reforge.spec import UserError

ID_DTYPE = np.dtype("<u4")
LENGTHS = (16, 32, 64)
TOKENS = 256


def shards(folder: Path, name: str, rows: np.ndarray, dtype: np.dtype[np.unsignedinteger]) -> Shards:
    writer = ShardWriter(folder, name, rows.shape[1], dtype, max_bytes=500)
    writer.write(rows)
    writer.close()
    return Shards([(folder / name, blocks) for name, blocks in writer.files], rows.shape[1], dtype)


def bucketed(folder: Path, *documents: list[int], lengths: tuple[int, ...] = LENGTHS) -> BucketedSamples:
    """A bucket for each list of document numbers; every token of a row is 1000 * its document + its index."""
    buckets, num_rows = [], 0
    for length, numbers in zip(lengths, documents, strict=False):
        values = 1000 * np.array(numbers) + np.arange(num_rows, num_rows + len(numbers))
        rows = np.repeat(values[:, None], length, axis=1)
        buckets.append(
            Bucket(
                shards(folder, f"{length}", rows, ID_DTYPE),
                shards(folder, f"{length}-documents", np.array(numbers)[:, None], DOCUMENT_DTYPE),
            )
        )
        num_rows += len(numbers)
    return BucketedSamples("train", buckets)


@pytest.fixture
def samples(tmp_path: Path) -> BucketedSamples:
    """100 rows of 16 tokens, 37 of 32, 5 of 64; documents of up to four rows."""
    return bucketed(tmp_path, [1 + n // 2 for n in range(100)], [1 + n // 4 for n in range(37)], [1, 2, 2, 2, 7])


@pytest.mark.parametrize("world_size", [1, 2, 3, 16])
def test_the_same_global_batches_on_any_number_of_workers(samples: BucketedSamples, world_size: int) -> None:
    for step in (*range(30), 1000):
        rows = samples.rows_at(9, step, TOKENS)
        whole = samples.read(rows, 9, partners=True)
        shares = [rows.share(rank, world_size) for rank in range(world_size)]
        batches = [samples.read(share, 9, partners=True) for share in shares]
        for name in ("ids", "epochs", "samples"):
            joined = np.concatenate([getattr(batch, name) for batch in batches])
            assert (joined == getattr(whole, name)).all()
        joined = np.concatenate([batch.partners[:, 0] for batch in batches if batch.partners is not None])
        assert whole.partners is not None
        assert (joined == whole.partners[:, 0]).all()
        assert {batch.ids.shape[1] for batch in batches} == {rows.row_tokens}
        sizes = [len(batch.samples) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert (whole.ids[:, 0] % 1000 == whole.samples).all()


def test_a_batch_is_of_one_length_and_full(samples: BucketedSamples) -> None:
    for step in range(100):
        rows = samples.rows_at(1, step, TOKENS)
        assert (samples.lengths(rows.samples) == rows.row_tokens).all()
        assert len(rows.samples) == TOKENS // rows.row_tokens
        assert rows.num_tokens == len(rows.samples) * rows.row_tokens <= TOKENS


def test_a_bucket_smaller_than_a_batch_is_filled_up_with_its_neighbours(samples: BucketedSamples) -> None:
    assert samples.stretches(256) == [(137, 5, 64), (100, 37, 32), (0, 100, 16)]
    assert samples.stretches(1024) == [(126, 16, 64), (94, 32, 32), (0, 94, 16)]
    assert samples.stretches(2048) == [(110, 32, 64), (0, 110, 32)]  # what is left at the end joins those before
    assert samples.stretches(10**6) == [(0, 142, 64)]
    for tokens in (64, 100, 256, 1024, 2048, 5000, 10**6):
        assert sum(stretch.num_rows for stretch in samples.stretches(tokens)) == len(samples)
        for step in range(20):
            rows = samples.rows_at(1, step, tokens)
            assert len(rows.samples) == min(tokens // rows.row_tokens, len(samples))
            ids = samples.read(rows, 1).ids
            assert (ids[:, 0] % 1000 == rows.samples).all()
            assert ((ids != PAD).sum(axis=1) == samples.lengths(rows.samples)).all()


def test_every_row_is_seen_and_steps_need_no_history(samples: BucketedSamples) -> None:
    seen: list[tuple[int, int]] = []
    for step in range(200):
        rows = pickle.loads(pickle.dumps(samples)).rows_at(2, step, TOKENS)  # as another process would ask
        seen += zip(rows.epochs.tolist(), rows.samples.tolist(), strict=True)
    assert len(set(seen)) == len(seen)
    assert {sample for epoch, sample in seen if epoch == 0} == set(range(len(samples)))
    assert samples.epoch_at(200, TOKENS) == pytest.approx(len(seen) / len(samples), rel=0.05)


def test_a_curriculum_starts_with_the_shortest_rows(samples: BucketedSamples) -> None:
    ordered = BucketedSamples("train", samples.buckets, curriculum=True)
    for tokens in (TOKENS, 1024):
        steps = next(step for step in range(100) if ordered.epoch_at(step, tokens) >= 1)
        lengths = [ordered.rows_at(1, step, tokens).row_tokens for step in range(3 * steps)]
        assert lengths[:steps] == sorted(lengths[:steps])
        assert len(set(lengths[:steps])) == 3
        assert lengths[steps:] != sorted(lengths[steps:])
        seen = [ordered.rows_at(1, step, tokens) for step in (*range(steps), steps + 1)]
        for step in (steps + 1, steps - 1, 0):
            rows = pickle.loads(pickle.dumps(ordered)).rows_at(1, step, tokens)  # as after a resume
            assert rows.samples.tolist() == seen[min(step, steps)].samples.tolist()


def test_rows_of_several_lengths_are_padded_to_the_longest(samples: BucketedSamples) -> None:
    blocks = samples.blocks(np.array([141, 0, 100]))
    assert blocks.shape == (3, 64)
    assert [int((row != PAD).sum()) for row in blocks] == [64, 16, 32]
    assert samples.blocks(np.array([0, 1])).shape == (2, 16)
    with pytest.raises(IndexError, match=r"0\.\.141"):
        samples.blocks(np.array([142]))


@pytest.mark.parametrize("max_tokens", [1, 64, 200, 10_000])
def test_parts_are_of_one_length_and_bounded(samples: BucketedSamples, max_tokens: int) -> None:
    indices = np.arange(0, len(samples), 3)
    parts = list(samples.parts(indices, -1, max_tokens))
    assert np.concatenate([rows.samples for _, rows in parts]).tolist() == indices.tolist()
    for start, rows in parts:
        assert indices[start] == rows.samples[0]
        assert set(samples.lengths(rows.samples)) == {rows.row_tokens}
        assert set(rows.epochs) == {-1}
        assert rows.num_tokens <= max_tokens or len(rows.samples) == 1
    assert list(samples.parts(indices[:0], -1, max_tokens)) == []


def all_rows(samples: Samples, epoch: int = 0) -> list[Rows]:
    return [rows for _, rows in samples.parts(np.arange(len(samples)), epoch, 10**9)]


def documents_of(ids: np.ndarray) -> list[int]:
    return (ids[:, 0] // 1000).tolist()


def test_a_partner_is_never_of_the_same_document(samples: BucketedSamples) -> None:
    drawn = set()
    for epoch in range(100):
        for rows in all_rows(samples, epoch):
            batch = samples.read(rows, seed=4, partners=True)
            assert batch.partners is not None
            assert batch.partners.shape == batch.ids.shape
            assert all(a != b for a, b in zip(documents_of(batch.ids), documents_of(batch.partners), strict=True))
            drawn.update((batch.partners[:, 0] % 1000).tolist())
    assert drawn == set(range(len(samples)))  # every row is somebody's partner


def test_every_row_of_another_document_is_as_likely(tmp_path: Path) -> None:
    samples = bucketed(tmp_path, [1, 2, 2, 3, 3, 3])
    rows = Rows(np.arange(6000), np.full(6000, 2), 16)
    counts = np.bincount(samples.partners(3, rows)[:, 0] % 1000, minlength=6)
    assert counts[[1, 2]].tolist() == [0, 0]
    assert (np.abs(counts[[0, 3, 4, 5]] - 1500) < 5 * 1500**0.5).all()


def test_partners_depend_on_seed_epoch_and_sample_alone(samples: BucketedSamples) -> None:
    [rows, *_] = all_rows(samples)
    partners = samples.partners(4, rows)
    for place in (0, 50, 99):
        alone = Rows(rows.epochs[[place]], rows.samples[[place]], 16)
        assert (samples.partners(4, alone) == partners[[place]]).all()
    assert not (samples.partners(5, rows) == partners).all()
    assert not (samples.partners(4, rows._replace(epochs=rows.epochs + 1)) == partners).all()
    assert not (samples.partners(4, rows._replace(epochs=rows.epochs - 1)) == partners).all()  # validation's epoch


def test_a_bucket_of_one_document_has_partners_from_others(tmp_path: Path) -> None:
    samples = bucketed(tmp_path, [1, 1, 2], [1, 1, 1, 1], [1, 3])
    for epoch in range(20):
        batch = samples.read(all_rows(samples, epoch)[1], 0, partners=True)
        assert batch.partners is not None
        assert set(documents_of(batch.partners)) <= {2, 3}


def test_one_document_has_no_partners(tmp_path: Path) -> None:
    alone = bucketed(tmp_path, [3, 3], [3])
    alone.check(partners=False)
    for attempt in (lambda: alone.check(partners=True), lambda: alone.read(all_rows(alone)[0], 1, partners=True)):
        with pytest.raises(UserError, match="the train split has only one"):
            attempt()


def test_packed_blocks_have_no_partners(tmp_path: Path) -> None:
    packed = PackedSamples([Set("train", shards(tmp_path, "packed", np.ones((4, 16), np.int64), ID_DTYPE))])
    packed.check(partners=False)
    for attempt in (lambda: packed.check(partners=True), lambda: packed.read(all_rows(packed)[0], 1, partners=True)):
        with pytest.raises(UserError, match=r"data\.batches to bucketed"):
            attempt()
