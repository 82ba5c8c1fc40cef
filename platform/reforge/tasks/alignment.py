"""Tagged units and tokens: a unit's tag is asked of its first piece, and every unit gets a tag back.

    units      학  교  에  ␣  갔  다          characters here; words in most sets
    pieces     학교    ##에   갔  ##다
    positions  0       1      2   3           the pieces that begin a unit: the model tags these
    leads      학      에     갔  다           units that share a piece have its position together

Shapes: U units, W positions, P pieces.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reforge.corpora.labelled import TaggedExample
from reforge.tokenizers.characters import Ints
from reforge.tokenizers.offsets import Pieces

NOWHERE = -1
OUTSIDE = "O"


class Alignment(NamedTuple):
    """Where the units of an example stand among its pieces.

    pieces: [W], the piece of each position, ascending
    positions: [U], the position of each unit; NOWHERE for white space and what the tokenizer leaves out
    """

    pieces: Ints
    positions: tuple[int, ...]

    @classmethod
    def of(cls, example: TaggedExample, pieces: Pieces) -> "Alignment":
        """A unit begins at the first piece with a part of it that no unit before it began at; without one it shares."""
        edges = np.array(example.units, dtype=np.int64).reshape(-1, 2)
        firsts = np.searchsorted(pieces.ends, edges[:, 0], side="right").tolist()
        stops = np.searchsorted(pieces.starts, edges[:, 1], side="left").tolist()
        taken, positions = list[int](), list[int]()
        for (start, end), first, stop in zip(example.units, firsts, stops, strict=True):
            if first >= stop or example.text[start:end].isspace():
                positions.append(NOWHERE)
                continue
            last = taken[-1] if taken else NOWHERE
            piece = min(max(first, last + 1), stop - 1)
            if piece > last:
                taken.append(piece)
            positions.append(len(taken) - 1)
        return cls(np.array(taken, dtype=np.int64), tuple(positions))

    def position_tags(self, tags: Sequence[str]) -> list[str]:
        """The tags [W] of the positions, from those [U] of the units: their leads', B-X for an I-X that begins."""
        found = list[str]()
        for position, tag in zip(self.positions, tags, strict=True):
            if position == len(found):
                before = found[-1] if found else OUTSIDE
                found.append(f"B-{tag[2:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag)
        return found


def unit_tags(positions: Sequence[int], tags: Sequence[str]) -> tuple[str, ...]:
    """The tags [U] of units at `positions`, from those [W] of the positions.

    Units that share a position go on with the entity of the first of them. One without a piece does where the next
    unit does, else it is outside.
    """
    found, last = list[str](), NOWHERE
    for position in positions:
        found.append("" if position == NOWHERE else _inside(tags[position]) if position == last else tags[position])
        last = max(last, position)
    behind = OUTSIDE
    for number in range(len(found) - 1, -1, -1):
        behind = found[number] = found[number] or (behind if behind.startswith("I-") else OUTSIDE)
    return tuple(found)


def _inside(tag: str) -> str:
    """What goes on with the entity of a tag."""
    return tag if tag == OUTSIDE else f"I-{tag[2:]}"
