"""A row of another document for every row: drawn by a hash, each row of another document as likely.

Rows lie in the order of their documents, so those of one document are a range, found by bisection on the files.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from reforge.batches.order import GOLDEN, Ints, Words, mix
from reforge.batches.samples import Rows
from reforge.batches.shards import Shards


def draw(seed: int, rows: Rows) -> Words:
    """Uniform uint64 [B] as a function of (seed, epoch, sample)."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8, person=b"reforge partner").digest()
    words = np.full(len(rows.samples), int.from_bytes(digest), dtype=np.uint64)
    for part in (rows.epochs, rows.samples):
        words = mix(words ^ (part.astype(np.uint64) + GOLDEN))
    return words


def other_rows(documents: Sequence[Shards], own: Ints, noise: Words) -> Ints:
    """For each document number in `own` [B] the index of a row of another one; indices count through `documents`.

    documents: the document number of every row, never falling within one of them
    """
    sizes = [len(numbers) for numbers in documents]
    starts = np.cumsum([0, *sizes[:-1]])
    firsts = [_first_at_least(numbers, own) for numbers in documents]
    lengths = [_first_at_least(numbers, own + 1) - first for numbers, first in zip(documents, firsts, strict=True)]
    num_others = sum(sizes) - sum(lengths)
    assert np.min(num_others, initial=1) > 0
    places = (noise % np.asarray(num_others, dtype=np.uint64)).astype(np.int64)
    for start, first, length in zip(starts, firsts, lengths, strict=True):
        places += np.where(places >= start + first, length, 0)
    return places


def one_document(documents: Sequence[Shards]) -> bool:
    """Whether all rows are of the same document."""
    ends = [int(numbers.blocks(np.array([row]))[0, 0]) for numbers in documents for row in (0, len(numbers) - 1)]
    return min(ends) == max(ends)


def _first_at_least(numbers: Shards, wanted: Ints) -> Ints:
    """The index of the first row whose document number is `wanted` [B] or more, len() where there is none."""
    keys = wanted.astype(numbers.dtype)  # of another type than the file's numpy would read all of it to convert it
    found = np.zeros_like(wanted)
    for file in range(len(numbers.files)):
        found += np.searchsorted(numbers.map(file)[:, 0], keys)
    return found
