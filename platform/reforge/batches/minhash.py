"""MinHash signatures of texts: how alike two texts are, from a few hundred bytes of each.

text -> hashes of words -> hashes of runs of words (shingles) -> the least value of each permutation -> bands, low bytes

Two signatures agree in a place with the probability that is the Jaccard similarity of their sets of shingles. Texts
that agree in all rows of one band meet in a bucket, and only those are compared.
Broder, On the resemblance and containment of documents, 1997. Lee et al., Deduplicating Training Data Makes Language
Models Better, ACL 2022: runs of five words. Leskovec et al., Mining of Massive Datasets, 3.4: bands.
"""

import math
import re
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reforge.batches.order import Words
from reforge.corpora.cleaning import NearDuplicates

Signatures = NDArray[np.uint32]
LowBytes = NDArray[np.uint8]
_FOUND_AT_THRESHOLD = 0.95
_PIECE_CHARS = 1 << 18
_BATCH_SHINGLES = 4096
_SPACE = re.compile(r"[ \t\n\r\f\v]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_LOW_BYTE_VALUES = 256


class Sketch:
    """Makes the signatures of texts; the same in every process."""

    def __init__(self, near: NearDuplicates) -> None:
        # It brings SciPy along, which every process of a job would wait for otherwise.
        from datasketch import MinHash  # type: ignore[import-untyped]

        self._shingle_words = near.shingle_words
        self._minhash = MinHash(near.num_permutations, seed=1, hashfunc=_hashed_already, scheme="affine32")

    def signature(self, text: str) -> Signatures:
        """The signature [num_permutations] of a text. A text of fewer words than a shingle is one shingle."""
        self._minhash.clear()
        for shingles in _shingles(text, self._shingle_words):
            for start in range(0, len(shingles), _BATCH_SHINGLES):
                # The library hashes one value after the other, but takes an array as one value that is many.
                self._minhash.update_batch([shingles[start : start + _BATCH_SHINGLES]])
        values: Signatures = self._minhash.hashvalues
        return values


def num_bands(near: NearDuplicates) -> int:
    """Bands of a signature: the fewest that let 95 % of the pairs that are just alike enough meet in a bucket."""
    for rows in range(near.num_permutations, 0, -1):
        bands = near.num_permutations // rows
        if 1 - (1 - near.threshold**rows) ** bands >= _FOUND_AT_THRESHOLD:
            return bands
    raise AssertionError(near)


def band_keys(signatures: Signatures, bands: int) -> Words:
    """The key [n, bands] of the bucket of each band of signatures [n, num_permutations]."""
    rows = signatures.shape[1] // bands
    values = signatures[:, : bands * rows].reshape(len(signatures), bands, rows).astype(np.uint64)
    keys = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), values.shape[:2])
    for row in range(rows):
        keys = _mixed(keys * _MULTIPLIER + values[:, :, row])
    return keys


def low_bytes(signatures: Signatures) -> LowBytes:
    """A quarter of the signatures, which says as much but for one agreement in 256 by chance (Li & König, 2010)."""
    return signatures.astype(np.uint8)


def least_agreement(near: NearDuplicates) -> int:
    """How many low bytes of two signatures agree where the estimated similarity is the threshold."""
    by_chance = 1 / _LOW_BYTE_VALUES
    return math.ceil(near.num_permutations * (near.threshold * (1 - by_chance) + by_chance) - 1e-9)


def _hashed_already(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return hashes


def _shingles(text: str, num_words: int) -> Iterator[NDArray[np.uint32]]:
    """The hashes of a text's shingles, piece by piece."""
    before = np.empty(0, np.uint64)
    is_first = True
    for words in _word_hashes(text):
        words = np.concatenate([before, words])
        before = words[max(0, len(words) - num_words + 1) :]
        if len(words) >= num_words:
            yield _joined(words, num_words)
            is_first = False
    if is_first:
        yield _joined(before if len(before) else np.zeros(1, np.uint64), max(1, len(before)))


def _joined(words: Words, num_words: int) -> NDArray[np.uint32]:
    """The hash of each run of `num_words` words."""
    count = len(words) - num_words + 1
    hashes = words[:count]
    for place in range(1, num_words):
        hashes = hashes * _MULTIPLIER + words[place : place + count]
    return (_mixed(hashes) >> np.uint64(32)).astype(np.uint32)


def _word_hashes(text: str) -> Iterator[Words]:
    """CRC-32 of each word: unlike Python's own hash it is the same in every process."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, min(len(text), start + _PIECE_CHARS))
        end = space.end() if space else len(text)
        words = text[start:end].encode().split()
        yield np.fromiter(map(zlib.crc32, words), np.uint64, len(words))
        start = end


def _mixed(hashes: Words) -> Words:
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MULTIPLIER
    return hashes ^ (hashes >> np.uint64(29))
