"""MinHash: signatures that are the same everywhere, and similarity as it is."""

import random
import zlib

import numpy as np
import pytest
from datasketch import MinHash

from reforge.batches import minhash
from reforge.batches.minhash import Sketch, band_keys, least_agreement, low_bytes, num_bands
from reforge.corpora.cleaning import NearDuplicates

NEAR = NearDuplicates()


def words(seed: int, count: int) -> list[str]:
    chosen = random.Random(seed)
    return ["".join(chosen.choices("가나다라마바사아자차abcdefgh", k=chosen.randint(1, 6))) for _ in range(count)]


def test_a_signature_is_the_same_in_every_process_and_version() -> None:
    """A change here makes signatures incomparable; Python's own hash() would differ from process to process."""
    signature = Sketch(NEAR).signature("하나 둘 셋 넷 다섯 여섯 일곱")
    assert signature[:4].tolist() == [694095440, 995899519, 1760946027, 1877225268]


def test_signatures_are_those_of_the_library() -> None:
    """That it takes an array of hashes for one value is not promised by the library, so it is held here."""
    text = " ".join(words(1, 500))
    [shingles] = minhash._shingles(text, 5)
    assert len(shingles) == 496
    slow = MinHash(128, seed=1, hashfunc=int, scheme="affine32")
    for shingle in shingles:
        slow.update(shingle)
    assert Sketch(NEAR).signature(text).tolist() == slow.hashvalues.tolist()


def test_a_sketch_forgets_the_text_before() -> None:
    sketch = Sketch(NEAR)
    first = sketch.signature("처음 글의 낱말 다섯 개")
    sketch.signature("다른 글의 낱말 다섯 개이다")
    assert sketch.signature("처음 글의 낱말 다섯 개").tolist() == first.tolist()


@pytest.mark.parametrize("count", [1, 4, 5, 6, 300])
def test_shingles_are_runs_of_words_whatever_the_pieces(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " \n".join(words(2, count))
    [whole] = minhash._shingles(text, 5)
    assert len(whole) == max(1, count - 4)
    monkeypatch.setattr(minhash, "_PIECE_CHARS", 7)
    pieces = list(minhash._shingles(text, 5))
    assert np.concatenate(pieces).tolist() == whole.tolist()
    assert count < 300 or len(pieces) > 50


def test_a_text_without_words_has_a_signature() -> None:
    assert Sketch(NEAR).signature("").tolist() == Sketch(NEAR).signature(" \n ").tolist()


def test_words_are_hashed_by_crc_32() -> None:
    [hashes] = minhash._word_hashes("물과 불")
    assert hashes.tolist() == [zlib.crc32("물과".encode()), zlib.crc32("불".encode())]


@pytest.mark.parametrize("shared", [0, 300, 600, 900])
def test_agreement_estimates_the_jaccard_similarity(shared: int) -> None:
    near = NearDuplicates(num_permutations=1024, shingle_words=1)
    common = [f"공통{number}" for number in range(shared)]
    texts = [" ".join([*common, *(f"{side}{number}" for number in range((1000 - shared) // 2))]) for side in "ab"]
    first, second = (Sketch(near).signature(text) for text in texts)
    true = shared / 1000
    assert (first == second).mean() == pytest.approx(true, abs=0.05)
    agreeing = int((low_bytes(first) == low_bytes(second)).sum())
    by_chance = 1 / 256
    assert (agreeing / 1024 - by_chance) / (1 - by_chance) == pytest.approx(true, abs=0.05)


def test_the_least_agreement_is_the_threshold_and_what_agrees_by_chance() -> None:
    assert least_agreement(NearDuplicates(threshold=1.0)) == 128
    assert least_agreement(NearDuplicates(threshold=0.8)) == 103  # 128 * (0.8 + 0.2 / 256) = 102.5
    assert least_agreement(NearDuplicates(threshold=0.5)) == 65  # 64.25


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("permutations", [16, 128, 1024])
def test_bands_find_nearly_all_pairs_at_the_threshold(threshold: float, permutations: int) -> None:
    bands = num_bands(NearDuplicates(threshold=threshold, num_permutations=permutations))
    assert 1 - (1 - threshold ** (permutations // bands)) ** bands >= 0.95


def test_equal_bands_have_equal_keys_and_others_have_not() -> None:
    signatures = np.random.default_rng(3).integers(0, 1 << 32, (50, 128), dtype=np.uint32)
    signatures[7, :7] = signatures[3, :7]
    signatures[9, 7:14] = signatures[3, :7]  # the same values in another band
    keys = band_keys(signatures, 18)
    assert keys.shape == (50, 18)
    assert keys[7, 0] == keys[3, 0]
    assert len(np.unique(keys)) == keys.size - 1
    assert band_keys(signatures[3:4], 18).tolist() == keys[3:4].tolist()
