"""What training and validation read of a split: rows, their order, and the batches of a step.

    (seed, step) --rows_at--> Rows of the global batch --share--> Rows of a rank --read--> Batch

The order is a function of (seed, epoch) alone: the same whoever asks and however many share it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reforge.batches.order import Ints

_NOTHING: Mapping[str, NDArray[Any]] = {}


class Batch(NamedTuple):
    """Rows, padded to one length, and where they stand in the data.

    partners: for each row one of another document, where they were asked for; T' may differ from T
    extras: what else belongs to each row, such as its label, by name; the first dimension of each is B
    """

    ids: Ints  # [B, T]
    epochs: Ints  # [B]
    samples: Ints  # [B], index of the row in the whole split
    partners: Ints | None = None  # [B, T']
    extras: Mapping[str, NDArray[Any]] = _NOTHING


class Rows(NamedTuple):
    """Rows by their place in the data, and the length to which they are padded."""

    epochs: Ints  # [B]
    samples: Ints  # [B]
    row_tokens: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows, padding included."""
        return len(self.samples) * self.row_tokens

    def share(self, rank: int, world_size: int) -> "Rows":
        """One rank's slice; the slices of all ranks, joined, are the whole.

        Sizes differ by at most one, so with fewer rows than ranks some get none.
        """
        assert 0 <= rank < world_size
        start, stop = (len(self.samples) * edge // world_size for edge in (rank, rank + 1))
        return Rows(self.epochs[start:stop], self.samples[start:stop], self.row_tokens)


class Samples(ABC):
    """The rows of one split, each with an index in range(len()). Pickles as paths.

    block_tokens: length of the longest row
    num_tokens: of all rows, padding included
    What goes into a step is given in the split's own measure: a corpus counts tokens, a task its examples.
    """

    block_tokens: int
    num_tokens: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows_at(self, seed: int, step: int, global_batch: int) -> Rows:
        """The global batch of a step: rows of at most `global_batch` tokens together, padding included."""

    @abstractmethod
    def epoch_at(self, step: int, global_batch: int) -> float:
        """How often the split has been seen after `step` steps."""

    @abstractmethod
    def lengths(self, indices: Ints) -> Ints:
        """Tokens of each row at `indices` [n], its padding included. They never fall from one index to the next."""

    @abstractmethod
    def padded(self, indices: Ints, row_tokens: int) -> Ints:
        """The rows at `indices` [n] as [n, row_tokens]; none may be longer."""

    @abstractmethod
    def partners(self, seed: int, rows: Rows) -> Ints:
        """For each of `rows` one of another document [B, T'], a function of (seed, epoch, sample) alone."""

    @abstractmethod
    def check(self, partners: bool) -> None:
        """Raise UserError where `partners` are wanted and there can be none."""

    def blocks(self, indices: Ints) -> Ints:
        """The rows at `indices` [n] as [n, T], padded to the longest of them."""
        return self.padded(indices, int(self.lengths(indices).max(initial=1)))

    def read(self, rows: Rows, seed: int, partners: bool = False) -> Batch:
        """The batch of `rows`, with partners where they are wanted."""
        ids = self.padded(rows.samples, rows.row_tokens)
        return Batch(ids, rows.epochs, rows.samples, self.partners(seed, rows) if partners else None)

    def parts(self, indices: Ints, epoch: int, max_tokens: int) -> Iterator[tuple[int, Rows]]:
        """`indices` (ascending) in parts of one length, none of more than `max_tokens` tokens but of a row at least.

        Yields where a part starts among `indices`, and its rows.
        """
        lengths = self.lengths(indices)
        start = 0
        while start < len(indices):
            row_tokens = int(lengths[start])
            same = int(np.searchsorted(lengths, row_tokens, side="right"))
            end = min(same, start + max(1, max_tokens // row_tokens))
            yield start, Rows(np.full(end - start, epoch), indices[start:end], row_tokens)
            start = end
