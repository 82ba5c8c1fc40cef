"""Pieces that never go across the edge of a unit: for texts that are tagged character by character.

    units    학  교  에  서  ␣  갔  다
    pieces   학교    ##에서     갔  ##다
    here     학 ##교 ##에 ##서  갔  ##다      as a vocabulary has them that has learnt ## forms

Pieces within one unit stay; those that units share are encoded again, each unit as the part of a word that it is.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from reforge.tokenizers.byte_characters import BYTE_CHARACTERS
from reforge.tokenizers.characters import Ints
from reforge.tokenizers.metaspace import SPACE
from reforge.tokenizers.offsets import OffsetEncoder, Pieces

Units = Sequence[tuple[int, int]]
_NUM_REMEMBERED = 1 << 16


class _Group(NamedTuple):
    """Pieces from `start` to `stop` that share the units from `low` to `high`."""

    start: int
    stop: int
    low: int
    high: int


class UnitEncoder:
    """As an `OffsetEncoder`, but no piece has a part in two units."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encoder = OffsetEncoder(tokenizer)
        self._tokenizer = tokenizer
        parts = json.loads(tokenizer.to_str())
        self._prefix: str = parts["model"].get("continuing_subword_prefix") or ""
        self._is_bytes = '"ByteLevel"' in json.dumps(parts["pre_tokenizer"])
        self._space = BYTE_CHARACTERS[ord(" ")] if self._is_bytes else SPACE
        self._ids = lru_cache(maxsize=_NUM_REMEMBERED)(self._encoded)

    def encode(self, texts: Sequence[str], units: Sequence[Units]) -> list[Pieces]:
        """The pieces of each text and its `units`."""
        whole = self._encoder.encode(texts)
        return [self._cut(*given) for given in zip(texts, units, whole, strict=True)]

    def _cut(self, text: str, units: Units, pieces: Pieces) -> Pieces:
        edges_U2 = np.array([edge for edge in units if not text[slice(*edge)].isspace()], dtype=np.int64).reshape(-1, 2)
        found = [new for group in _groups(edges_U2, pieces) for new in self._again(text, edges_U2, pieces, group)]
        ids, starts, ends = zip(*found, strict=True) if found else ((), (), ())
        return Pieces(np.array(ids, np.uint32), np.array(starts, np.int64), np.array(ends, np.int64))

    def _again(self, text: str, edges_U2: Ints, pieces: Pieces, group: _Group) -> Iterator[tuple[int, int, int]]:
        """Id and span of each piece of a group."""
        if group.high - group.low < 2:
            own = (array[group.start : group.stop].tolist() for array in pieces)
            yield from zip(*own, strict=True)
            return
        before = self._tokenizer.id_to_token(int(pieces.ids[group.start])) or ""
        for number, (start, end) in enumerate(edges_U2[group.low : group.high].tolist()):
            first = number == 0
            spaced = first and before.startswith(self._space)
            goes_on = bool(self._prefix) and (not first or before.startswith(self._prefix))
            yield from ((token, start, end) for token in self._ids(text[start:end], spaced, goes_on))

    def _encoded(self, unit: str, spaced: bool, goes_on: bool) -> tuple[int, ...]:
        """The ids of a unit, with a space before it or as what goes on with a word."""
        normalizer = self._tokenizer.normalizer
        word = unit if normalizer is None else normalizer.normalize_str(unit).strip()
        word = "".join(BYTE_CHARACTERS[byte] for byte in word.encode()) if self._is_bytes else word
        tokens = self._tokenizer.model.tokenize(self._space * spaced + word)
        ids = [token.id for token in tokens]
        if goes_on and tokens:
            inner = self._tokenizer.token_to_id(self._prefix + tokens[0].value)
            ids[0] = ids[0] if inner is None else inner
        return tuple(ids)


def _groups(edges_U2: Ints, pieces: Pieces) -> Iterator[_Group]:
    """The pieces in order, those together that have a part in the same unit."""
    lows = np.searchsorted(edges_U2[:, 1], pieces.starts, side="right").tolist()
    highs = np.searchsorted(edges_U2[:, 0], pieces.ends, side="left").tolist()
    group: _Group | None = None
    for number, (low, high) in enumerate(zip(lows, highs, strict=True)):
        high = max(low, high)
        if group is not None and low < min(group.high, high):
            group = group._replace(stop=number + 1, high=max(group.high, high))
            continue
        if group is not None:
            yield group
        group = _Group(number, number + 1, low, high)
    if group is not None:
        yield group
