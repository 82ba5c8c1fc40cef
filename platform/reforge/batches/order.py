"""A pseudo-random order of n things without ever holding it: position -> thing, one number at a time.

position -> Feistel network over the next power of two -> again while the result is n or more (cycle walking)

Every (seed, epoch) gives another permutation. Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.
"""

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

_ROUNDS = 8  # even, so that the two halves of unequal width end where they began
GOLDEN = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
_MIX_1 = np.array([0xBF58476D1CE4E5B9], dtype=np.uint64)
_MIX_2 = np.array([0x94D049BB133111EB], dtype=np.uint64)
_ONE = np.uint64(1)


def permute(positions: Ints, n: int, seed: int, epochs: Ints) -> Ints:
    """Where each position of range(n) goes in its epoch's order. positions, epochs: [B], 0 <= position < n."""
    return permute_each(positions, np.full_like(positions, n), seed_key(seed), epochs)


def permute_each(positions: Ints, sizes: Ints, seed_keys: Words, epochs: Ints) -> Ints:
    """`permute` with a size n and a `seed_key` for each position; all [B], `seed_keys` may be [1]."""
    assert positions.shape == sizes.shape == epochs.shape
    assert positions.size == 0 or (positions.min() >= 0 and (positions < sizes).all())
    keys = mix(seed_keys + epochs.astype(np.uint64) * GOLDEN)
    rounds = mix(keys + np.arange(1, _ROUNDS + 1, dtype=np.uint64)[:, None] * GOLDEN)
    bits = np.maximum(np.frexp((sizes - 1).astype(np.float64))[1], 2).astype(np.uint64)  # of n - 1: exact below 2**53
    limits, values = sizes.astype(np.uint64), _feistel(positions.astype(np.uint64), rounds, bits)
    outside = np.flatnonzero(values >= limits)
    while outside.size:  # fewer than half go round again each time
        values[outside] = _feistel(values[outside], rounds[:, outside], bits[outside])
        outside = outside[values[outside] >= limits[outside]]
    return values.astype(np.int64)


def _feistel(values: Words, rounds: Words, bits: Words) -> Words:
    """A permutation of range(2 ** bits) for each key; values, bits: [B], rounds: [8, B]."""
    left_bits, right_bits = bits - bits // np.uint64(2), bits // np.uint64(2)
    left_mask, right_mask = (_ONE << left_bits) - _ONE, (_ONE << right_bits) - _ONE
    left, right = values >> right_bits, values & right_mask
    for key in rounds:
        left, right = right, left ^ (mix(right + key) & left_mask)
        left_mask, right_mask = right_mask, left_mask
    joined: Words = (left << right_bits) | right
    return joined


def mix(words: Words) -> Words:
    """splitmix64's finaliser (Steele et al. 2014): a bijection of 64-bit words that flips each bit half the time.

    Unsigned overflow is meant: arrays wrap without a warning, which scalars would give.
    """
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


@lru_cache
def seed_key(seed: int, purpose: str = "") -> Words:
    """What `permute_each` takes for a seed, [1]; another `purpose` gives another order of the same seed."""
    text = f"{purpose}/{seed}" if purpose else str(seed)
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"reforge order").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)
