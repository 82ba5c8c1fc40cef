"""Buckets: every document against its bucket's representatives, however records come in blocks."""

from pathlib import Path

import numpy as np
import pytest

from reforge.batches.near_duplicates import Buckets, read_signatures
from reforge.batches.sorted_records import Records

WIDTH, LEAST = 16, 12


def alike(num_documents: int, num_forms: int) -> np.ndarray:
    """Signatures [num_documents, 16] of variants of some forms: many agree in 12 places, many do not."""
    random = np.random.default_rng(num_documents)
    forms = random.integers(0, 256, (num_forms, WIDTH), dtype=np.uint8)
    signatures = forms[random.integers(0, num_forms, num_documents)]
    changed = random.random(signatures.shape) < random.choice([0.0, 0.1, 0.3], (num_documents, 1))
    return np.where(changed, random.integers(0, 256, signatures.shape, dtype=np.uint8), signatures)


def found_one_by_one(keys: list[int], signatures: np.ndarray) -> list[bool]:
    """The rule as it is told: up to 32 representatives of each bucket, each unlike those before."""
    representatives: dict[int, list[np.ndarray]] = {}
    found = []
    for key, signature in zip(keys, signatures, strict=True):
        those = representatives.setdefault(key, [])
        found.append(any((signature == other).sum() >= LEAST for other in those))
        if not found[-1] and len(those) < 32:
            those.append(signature)
    return found


def found_in_blocks(keys: list[int], signatures: np.ndarray, block: int, members: int) -> list[bool]:
    buckets = Buckets(lambda parts, numbers: signatures[numbers], LEAST, members)
    numbers = np.arange(len(keys), dtype=np.uint32)
    found = []
    for start in range(0, len(keys), block):
        chosen = numbers[start : start + block]
        found += buckets.found(Records(np.array(keys, np.uint64)[chosen], np.zeros_like(chosen), chosen)).tolist()
    return found


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("members", [2, 33, 1000])
def test_what_is_found_is_the_same_in_blocks_of_any_size(block: int, members: int) -> None:
    random = np.random.default_rng(2)
    sizes = [1, 2, 1, 1, 100, 1, 3, 60, 1, 10]
    keys = np.repeat(np.sort(random.integers(0, 1 << 64, len(sizes), dtype=np.uint64)), sizes).tolist()
    signatures = alike(len(keys), 50)
    expected = found_one_by_one(keys, signatures)
    assert 30 < sum(expected) < 150
    assert found_in_blocks(keys, signatures, block, members) == expected


def test_only_32_representatives_are_compared() -> None:
    random = np.random.default_rng(4)
    signatures = random.integers(0, 256, (40, WIDTH), dtype=np.uint8)
    doubled = np.concatenate([signatures, signatures])
    assert found_in_blocks([5] * 80, doubled, 80, 1000) == [False] * 40 + [True] * 32 + [False] * 8


def test_alone_in_a_bucket_no_signature_is_read() -> None:
    def read(parts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        assert numbers.tolist() == [9]  # the last one may have company in the next block
        return np.zeros((1, WIDTH), np.uint8)

    numbers = np.arange(10, dtype=np.uint32)
    assert not Buckets(read, LEAST).found(Records(numbers.astype(np.uint64), numbers, numbers)).any()


@pytest.mark.parametrize("gap", [0, 16, 1 << 16])
def test_signatures_are_read_in_the_order_asked_for(tmp_path: Path, gap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reforge.batches.near_duplicates._GAP_BYTES", gap)
    random = np.random.default_rng(6)
    rows = [random.integers(0, 256, (size, WIDTH), dtype=np.uint8) for size in (30, 1, 200)]
    files = [tmp_path / str(part) for part in range(3)]
    for file, content in zip(files, rows, strict=True):
        file.write_bytes(content.tobytes())
    asked = [(2, 199), (0, 3), (2, 0), (1, 0), (0, 2), (0, 29), (2, 199), (2, 100)]
    parts, numbers = (np.array(column, np.uint32) for column in zip(*asked, strict=True))
    expected = [rows[part][number].tolist() for part, number in asked]
    assert read_signatures(files, WIDTH, parts, numbers).tolist() == expected
