"""Sorted records: one order whatever the files, the slots and the size of a block."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reforge.batches.sorted_records import Records, RecordWriter, SortedRecords, even_slots

NUM_SLOTS = 6


def written(root: Path, parts: Sequence[np.ndarray], num_slots: int = NUM_SLOTS) -> list[Path]:
    """The folders of parts whose record number n has the n-th key; each part's keys come in two portions."""
    folders = []
    for part, keys in enumerate(parts):
        folder = root / str(part)
        folder.mkdir(parents=True)
        writer = RecordWriter(folder, "text", even_slots(num_slots))
        numbers = np.arange(len(keys), dtype=np.uint32)
        for portion in np.array_split(np.arange(len(keys)), 2):
            writer.add(keys[portion], numbers[portion])
        writer.close()
        folders.append(folder)
    return folders


def all_records(folders: Sequence[Path], slots: range, most: int) -> list[tuple[int, int, int]]:
    blocks = list(SortedRecords(folders, "text", slots).blocks(most))
    assert all(len(block.keys) for block in blocks)
    return [tuple(record) for block in blocks for record in zip(*(column.tolist() for column in block), strict=True)]


def random_parts(distinct: int) -> list[np.ndarray]:
    """Parts of 0 to 400 keys, of which only a few are distinct; the least and the greatest possible among them."""
    random = np.random.default_rng(5)
    keys = random.integers(0, 1 << 64, distinct, dtype=np.uint64)
    keys[:2] = 0, (1 << 64) - 1
    return [random.choice(keys, size) for size in (0, 400, 1, 250, 0)]


@pytest.mark.parametrize("most", [1 << 20, 100, 3])
@pytest.mark.parametrize("distinct", [3, 40, 2000])
def test_blocks_are_sorted_by_key_part_and_number(tmp_path: Path, distinct: int, most: int) -> None:
    parts = random_parts(distinct)
    expected = sorted(
        (key, part, number) for part, keys in enumerate(parts) for number, key in enumerate(keys.tolist())
    )
    assert all_records(written(tmp_path, parts), range(NUM_SLOTS), most) == expected


def test_slots_share_the_records_out(tmp_path: Path) -> None:
    parts = random_parts(2000)
    folders = written(tmp_path, parts)
    by_slot = [all_records(folders, range(slot, slot + 1), 1 << 20) for slot in range(NUM_SLOTS)]
    assert [record for records in by_slot for record in records] == all_records(folders, range(NUM_SLOTS), 1 << 20)
    assert min(map(len, by_slot)) > 50


def test_slots_begin_at_even_keys() -> None:
    assert even_slots(1).tolist() == [0]
    assert even_slots(4).tolist() == [0, 1 << 62, 1 << 63, 3 << 62]
    thirds = even_slots(3).tolist()
    assert thirds == [0, -(-(1 << 64) // 3), -(-(2 << 64) // 3)]


def test_a_block_keeps_to_its_size_where_keys_allow_it(tmp_path: Path) -> None:
    folders = written(tmp_path, random_parts(2000))
    sizes = [len(block.keys) for block in SortedRecords(folders, "text", range(NUM_SLOTS)).blocks(50)]
    assert max(sizes) <= 50
    assert isinstance(next(SortedRecords(folders, "text", range(1)).blocks()), Records)


def test_no_records_are_no_blocks(tmp_path: Path) -> None:
    folders = written(tmp_path, [np.empty(0, np.uint64)])
    assert list(folders[0].iterdir()) == []
    assert list(SortedRecords(folders, "text", range(NUM_SLOTS)).blocks()) == []
