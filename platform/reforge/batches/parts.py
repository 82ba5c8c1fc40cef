"""A corpus in parts of similar size, each read, encoded and packed by one task.

    files     a (3 MB) | b (2 MB) | c (1 GB, may be cut) ............ | d (9 GB, may not)
    parts     a + b               | c[0:s] | c[s:2s] | ...            | d

The parts are a function of the corpus alone, so what they give does not depend on who works on them, nor on how many.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reforge.corpora import Corpus, Slice

_MIB = 1 << 20
# Small enough that a lost task costs minutes, large enough that the padding at its end and its start-up cost nothing.
_LEAST_BYTES = 2 * _MIB
_MOST_BYTES = 512 * _MIB
_PARTS = 1024


class CorpusPart(NamedTuple):
    """Slices that are read one after the other, and about how many bytes of text they hold."""

    number: int
    slices: tuple[Slice, ...]
    num_bytes: int


def plan(corpus: Corpus, sizes: Mapping[Path, int]) -> list[CorpusPart]:
    """The parts of a corpus in reading order. sizes: unpacked bytes of each of its files."""
    wholes = corpus.whole()
    units = [_extent(corpus, whole, sizes) for whole in wholes]
    part_bytes = min(max(sum(num_bytes for _, num_bytes in units) // _PARTS, _LEAST_BYTES), _MOST_BYTES)
    groups: list[tuple[list[Slice], int]] = [([], 0)]
    for whole, (num_units, num_bytes) in zip(wholes, units, strict=True):
        pieces = -(-num_bytes // part_bytes) if corpus.cuttable(whole) else 1
        for piece in _cut(whole, num_units, max(1, pieces)):
            slices, filled = groups[-1]
            size = num_bytes // max(1, pieces)
            if slices and filled + size > part_bytes:
                groups.append(([piece], size))
            else:
                groups[-1] = ([*slices, piece], filled + size)
    return [CorpusPart(number, tuple(slices), size) for number, (slices, size) in enumerate(groups)]


def _extent(corpus: Corpus, whole: Slice, sizes: Mapping[Path, int]) -> tuple[int, int]:
    """How many units a source can be cut at, and its bytes."""
    if whole.file is None:
        extent = corpus.extent(whole)
        return extent.num_rows, extent.num_bytes
    return sizes[whole.file], sizes[whole.file]


def _cut(whole: Slice, num_units: int, pieces: int) -> Sequence[Slice]:
    edges = [num_units * edge // pieces for edge in range(pieces)]
    return [whole._replace(start=start, stop=stop) for start, stop in zip(edges, [*edges[1:], None], strict=True)]
