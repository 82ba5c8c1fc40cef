"""Blocks of one length as samples: of any number of documents, or rows of one document each.

    index   0 ......... 79 | 80 .......... 199 | 200 .. 204     counts through the sets
    set         kowiki     |       petitions   |   news

Step s takes positions s*G .. s*G+G-1 of an endless stream of blocks, in which sets come as often as they weigh.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reforge.batches.mixture import Mixture
from reforge.batches.order import Ints
from reforge.batches.partners import draw, one_document, other_rows
from reforge.batches.samples import Rows, Samples
from reforge.batches.shards import Shards
from reforge.spec import UserError

_NO_PARTNERS = (
    "the objective pairs texts of different documents, and blocks of several documents do not tell them apart: "
    "set data.pack to pairs, or data.batches to bucketed"
)


class Set(NamedTuple):
    """The blocks of one source.

    weight: how often the set comes in an epoch
    documents: the document number of every row, never falling; None where blocks hold several documents
    """

    name: str
    shards: Shards
    weight: float = 1.0
    documents: Shards | None = None


class PackedSamples(Samples):
    """Blocks of equal length from one set or several; sets without a block count for nothing."""

    def __init__(self, sets: Sequence[Set]) -> None:
        self.sets = [one for one in sets if len(one.shards)]
        [self.block_tokens] = {one.shards.block_tokens for one in self.sets}
        sizes = [len(one.shards) for one in self.sets]
        self._ends = np.cumsum(sizes)
        self.num_tokens = len(self) * self.block_tokens
        self._mixture = Mixture([one.name for one in self.sets], sizes, [one.weight for one in self.sets])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def rows_at(self, seed: int, step: int, global_batch: int) -> Rows:
        return Rows(*self._mixture.locate(seed, step, global_batch // self.block_tokens), self.block_tokens)

    def epoch_at(self, step: int, global_batch: int) -> float:
        return step * (global_batch // self.block_tokens) / self._mixture.epoch_blocks

    def lengths(self, indices: Ints) -> Ints:
        return np.full(len(indices), self.block_tokens, dtype=np.int64)

    def padded(self, indices: Ints, row_tokens: int) -> Ints:
        assert row_tokens == self.block_tokens or not len(indices)
        if len(self.sets) == 1:
            return self.sets[0].shards.blocks(indices)
        out = np.empty((len(indices), self.block_tokens), dtype=np.int64)
        sets = self._set_of(indices)
        for number in np.unique(sets):
            places = np.flatnonzero(sets == number)
            out[places] = self.sets[number].shards.blocks(indices[places] - self._start(number))
        return out

    def partners(self, seed: int, rows: Rows) -> Ints:
        """From the row's own set."""
        noise, sets = draw(seed, rows), self._set_of(rows.samples)
        chosen = np.empty_like(rows.samples)
        for number in np.unique(sets):
            places, start = np.flatnonzero(sets == number), self._start(number)
            documents = self._documents(self.sets[number])
            own = documents.blocks(rows.samples[places] - start)[:, 0]
            chosen[places] = start + other_rows([documents], own, noise[places])
        return self.padded(chosen, self.block_tokens)

    def check(self, partners: bool) -> None:
        for one in self.sets if partners else ():
            self._documents(one)

    def _documents(self, one: Set) -> Shards:
        """The document numbers of a set; raises UserError where there is no telling, or only one document."""
        if one.documents is None:
            raise UserError(_NO_PARTNERS)
        if one_document([one.documents]):
            raise UserError(
                f"the objective pairs texts of different documents, and {one.name} has only one: add documents, or "
                "change data.valid_fraction"
            )
        return one.documents

    def _start(self, number: int) -> int:
        return int(self._ends[number]) - len(self.sets[number].shards)

    def _set_of(self, indices: Ints) -> Ints:
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"block index outside 0..{len(self) - 1}")
        return np.searchsorted(self._ends, indices, side="right")
