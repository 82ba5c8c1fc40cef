"""A pseudo-random order of n things without ever holding it: position -> thing, one number at a time.

position -> Feistel network over the next power of two -> again while the result is n or more (cycle walking)

Every (seed, epoch) gives another permutation. Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

_ROUNDS = 8  # even, so that the two halves of unequal width end where they began
GOLDEN = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
_MIX_1 = np.array([0xBF58476D1CE4E5B9], dtype=np.uint64)
_MIX_2 = np.array([0x94D049BB133111EB], dtype=np.uint64)


def permute(positions: Ints, n: int, seed: int, epochs: Ints) -> Ints:
    """Where each position of range(n) goes in its epoch's order. positions, epochs: [B], 0 <= position < n."""
    assert positions.shape == epochs.shape
    assert positions.size == 0 or (positions.min() >= 0 and positions.max() < n)
    bits = max(2, (n - 1).bit_length())
    keys = mix(_seed_key(seed) + epochs.astype(np.uint64) * GOLDEN)
    values = _feistel(positions.astype(np.uint64), keys, bits)
    outside = np.flatnonzero(values >= n)
    while outside.size:  # fewer than half go round again each time
        values[outside] = _feistel(values[outside], keys[outside], bits)
        outside = outside[values[outside] >= n]
    return values.astype(np.int64)


def _feistel(values: Words, keys: Words, bits: int) -> Words:
    """A permutation of range(2 ** bits) for each key."""
    left_bits, right_bits = bits - bits // 2, bits // 2
    left = values >> np.uint64(right_bits)
    right = values & np.uint64((1 << right_bits) - 1)
    for number in range(1, _ROUNDS + 1):
        noise = mix(right + mix(keys + np.uint64(number) * GOLDEN))
        left, right = right, left ^ (noise & np.uint64((1 << left_bits) - 1))
        left_bits, right_bits = right_bits, left_bits
    return (left << np.uint64(right_bits)) | right


def mix(words: Words) -> Words:
    """splitmix64's finaliser (Steele et al. 2014): a bijection of 64-bit words that flips each bit half the time.

    Unsigned overflow is meant: arrays wrap without a warning, which scalars would give.
    """
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


def _seed_key(seed: int) -> Words:
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8, person=b"reforge order").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)
