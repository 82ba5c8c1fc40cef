"""Shards: bounded files, memory maps, and slices of the global batch that join to the whole."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from reforge.batches import PackedSamples, Set, Shards, global_samples
from reforge.batches.shards import ShardWriter, token_dtype

T = 16


def write(folder: Path, num_blocks: int, max_bytes: int, vocab_size: int = 1000) -> Shards:
    dtype = token_dtype(vocab_size)
    writer = ShardWriter(folder, "train", T, dtype, max_bytes)
    blocks = np.arange(num_blocks * T).reshape(num_blocks, T) % vocab_size
    for part in np.array_split(blocks, 3):
        writer.write(part)
    writer.close()
    return Shards([(folder / name, blocks) for name, blocks in writer.files], T, dtype)


def test_files_are_bounded_and_read_back_in_any_order(tmp_path: Path) -> None:
    shards = write(tmp_path, 25, max_bytes=7 * T * 2 + 5)
    assert [blocks for _, blocks in shards.files] == [7, 7, 7, 4]
    assert max(path.stat().st_size for path, _ in shards.files) <= 7 * T * 2 + 5
    indices = np.array([24, 0, 7, 6, 13, 14, 24])
    blocks = shards.blocks(indices)
    assert blocks.dtype == np.int64
    assert blocks.tolist() == [[(i * T + t) % 1000 for t in range(T)] for i in indices]
    assert shards.blocks(np.array([], dtype=np.int64)).shape == (0, T)


@pytest.mark.parametrize(("vocab_size", "itemsize"), [(65_535, 2), (65_536, 4), (200_000, 4)])
def test_ids_fit_their_type(tmp_path: Path, vocab_size: int, itemsize: int) -> None:
    assert token_dtype(vocab_size).itemsize == itemsize
    shards = write(tmp_path, 5000 * 4 // T, 1 << 20, vocab_size)
    last = len(shards) - 1
    assert shards.blocks(np.array([last]))[0, -1] == ((last + 1) * T - 1) % vocab_size


def test_files_are_mapped_not_loaded_and_only_when_read(tmp_path: Path) -> None:
    shards = write(tmp_path, 25, max_bytes=7 * T * 2)
    assert not shards._maps
    shards.blocks(np.array([8]))
    assert list(shards._maps) == [1]
    assert isinstance(shards.map(1), np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        shards.map(1)[0, 0] = 1


def test_shards_travel_to_another_process_as_paths(tmp_path: Path) -> None:
    shards = write(tmp_path, 4000, max_bytes=1 << 20)
    shards.blocks(np.arange(4000))
    sent = pickle.dumps(shards)
    assert len(sent) < 2000
    assert (pickle.loads(sent).blocks(np.arange(10)) == shards.blocks(np.arange(10))).all()


@pytest.mark.parametrize("index", [-1, 25])
def test_a_block_outside_the_split_is_an_error(tmp_path: Path, index: int) -> None:
    with pytest.raises(IndexError, match=r"0\.\.24"):
        write(tmp_path, 25, 1 << 20).blocks(np.array([index]))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 16])
def test_the_same_global_batches_on_any_number_of_workers(tmp_path: Path, world_size: int) -> None:
    shards = write(tmp_path, 25, max_bytes=7 * T * 2)
    packed = PackedSamples([Set("train", shards)])
    for step in (0, 2, 1000):
        epochs, samples = global_samples(25, 9, step, 12)
        rows = packed.rows_at(9, step, 12 * T)
        ranks = [packed.read(rows.share(rank, world_size), 9) for rank in range(world_size)]
        assert np.concatenate([batch.samples for batch in ranks]).tolist() == samples.tolist()
        assert np.concatenate([batch.epochs for batch in ranks]).tolist() == epochs.tolist()
        assert (np.concatenate([batch.ids for batch in ranks]) == shards.blocks(samples)).all()
        sizes = [len(batch.samples) for batch in ranks]
        assert max(sizes) - min(sizes) <= 1
