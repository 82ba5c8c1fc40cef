"""Tagged texts as rows: their pieces, in windows where they are too many, and the positions that each row tags.

    pieces    p p p p p p p p p p p p p p        positions are some of them
    rows      [CLS] p p p p p p p p [SEP]
                      [CLS] p p p p p p p p [SEP]
    tagged          * * * * * *                  each position where it has the most context
                                * * * * * *

Extras of a row: PLACES [W], where its positions are among its tokens; TAGS [W], what they are; UNITS [U], the position
of each of its units, counted from 1 on within the row, 0 where it has none. An example's rows share its positions and
its units out among them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from reforge.corpora.labelled import TaggedExample
from reforge.tasks.alignment import NOWHERE, Alignment
from reforge.tasks.task import Array, Row
from reforge.tasks.text_rows import ENCODED_AT_ONCE, NUM_FRAME_TOKENS, framed
from reforge.tasks.token_model import PLACES, TAGS
from reforge.tasks.windows import cut, own_shares
from reforge.tokenizers.offsets import OffsetEncoder, Pieces
from reforge.tokenizers.unit_pieces import UnitEncoder

UNITS = "units"


class Part(NamedTuple):
    """What one row says of its example: scores [W, K] of its positions, and UNITS."""

    scores_WK: Array
    units: Array


def joined(parts: Sequence[Part]) -> tuple[Array, list[int]]:
    """The scores [W, K] of all positions of an example, and the position [U] of each of its units, or NOWHERE."""
    scores_WK = np.concatenate([part.scores_WK for part in parts])
    before = np.cumsum([0, *(len(part.scores_WK) for part in parts)])
    positions = [
        np.where(part.units == 0, NOWHERE, part.units - 1 + offset) for part, offset in zip(parts, before, strict=False)
    ]
    return scores_WK, np.concatenate(positions).tolist()


class TaggedRows:
    """Rows of at most `block_tokens` tokens; it counts the texts that took several, and units without a piece.

    names: of the tags, in the order of their numbers
    by_unit: cut pieces where a unit ends
    """

    def __init__(
        self, tokenizer: Tokenizer, names: tuple[str, ...], block_tokens: int, overlap_tokens: int, by_unit: bool
    ) -> None:
        self.index_of = {name: index for index, name in enumerate(names)}
        self.block_tokens = block_tokens
        self.room = block_tokens - NUM_FRAME_TOKENS[False]
        assert self.room > 0, f"no room for a text in {block_tokens} tokens"
        self.stride = self.room - min(overlap_tokens, self.room // 2)
        self._by_unit = UnitEncoder(tokenizer) if by_unit else None
        self._by_word = OffsetEncoder(tokenizer)
        self.num_texts = self.num_long = self.num_units = self.num_without = 0

    def of(self, examples: Sequence[TaggedExample], labelled: bool) -> Iterator[Row]:
        """The rows of each example, in order; `labelled` ones have tags, all of them known."""
        for start in range(0, len(examples), ENCODED_AT_ONCE):
            part = examples[start : start + ENCODED_AT_ONCE]
            for number, (example, pieces) in enumerate(zip(part, self._pieces(part), strict=True), start):
                yield from self._rows(number, example, pieces, labelled)

    def notes(self) -> list[str]:
        """How many texts took several rows, and how many units have no piece to be tagged by."""
        notes = []
        if self.num_long:
            notes.append(
                f"{self.num_long:,} of {self.num_texts:,} texts did not fit in {self.block_tokens:,} tokens and were "
                "read in windows"
            )
        if self.num_without:
            notes.append(
                f"{self.num_without:,} of {self.num_units:,} words or characters are white space or have no token: "
                "they get the tag that goes with their neighbours'"
            )
        return notes

    def _pieces(self, examples: Sequence[TaggedExample]) -> list[Pieces]:
        texts = [example.text for example in examples]
        if self._by_unit is None:
            return self._by_word.encode(texts)
        return self._by_unit.encode(texts, [example.units for example in examples])

    def _rows(self, number: int, example: TaggedExample, pieces: Pieces, labelled: bool) -> Iterator[Row]:
        aligned = Alignment.of(example, pieces)
        tags = self._tags(example, aligned) if labelled else None
        windows = cut(len(pieces.ids), self.room, self.stride)
        shares = own_shares(windows)
        firsts = np.searchsorted(aligned.pieces, [start for start, _ in shares])
        lasts = np.append(firsts[1:], len(aligned.pieces))
        owners = _owners(aligned, firsts)
        self._count(aligned, len(windows))
        for window, ((start, stop), first, last) in enumerate(zip(windows, firsts, lasts, strict=True)):
            mine = np.array(aligned.positions, dtype=np.int32)[owners == window]
            extras = {
                PLACES: (aligned.pieces[first:last] - start + 1).astype(np.int32),
                UNITS: np.where(mine == NOWHERE, 0, mine - first + 1).astype(np.int32),
            }
            if tags is not None:
                extras[TAGS] = tags[first:last]
            yield Row(number, framed(pieces.ids[start:stop]), None, extras)

    def _tags(self, example: TaggedExample, aligned: Alignment) -> Array:
        assert example.tags is not None, example.key
        return np.array([self.index_of[tag] for tag in aligned.position_tags(example.tags)], dtype=np.int32)

    def _count(self, aligned: Alignment, num_windows: int) -> None:
        self.num_texts += 1
        self.num_long += num_windows > 1
        self.num_units += len(aligned.positions)
        self.num_without += aligned.positions.count(NOWHERE)


def _owners(aligned: Alignment, firsts: Array) -> Array:
    """The row [U] of each unit, given the first position of each row: that of its position, or of the last before."""
    reached = np.maximum.accumulate(np.array((0, *aligned.positions), dtype=np.int64))[1:]
    owners: Array = np.searchsorted(firsts, reached, side="right") - 1
    return owners
