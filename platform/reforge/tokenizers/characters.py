"""The characters of a text by their places: which join the one before, which are white space, where a copy's came from.

A copy of a text is composed (NFC) or not, and has marks (JOINER) between some of its characters:

    text  ㅎㅏㄱ ㄱㅛ ㅇㅔ        clusters of what combines
    copy  학     교  |  에        each character stands for a cluster, a mark for nothing
"""

import unicodedata
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import normalizers

from reforge.tokenizers.morphemes import JOINER

Ints = NDArray[np.int64]
_VOWELS_AND_FINALS = ("\u1160", "\u11ff")
_NFC = normalizers.NFC()


@cache
def joins_before(char: str) -> bool:
    """Whether a character combines with the one before it: a mark, or a conjoining vowel or final of Hangul."""
    first, last = _VOWELS_AND_FINALS
    return unicodedata.category(char)[0] == "M" or first <= char <= last


class Characters:
    """A text's characters, N of them, and for each place from 0 to N what is next to it."""

    def __init__(self, text: str) -> None:
        self._codes_N = np.frombuffer(text.encode("utf-32-le"), "<u4")
        kinds, kind_N = np.unique(self._codes_N, return_inverse=True)
        found = [chr(kind) for kind in kinds]
        self._joins_N = np.array([joins_before(char) for char in found], dtype=bool)[kind_N]
        self._blank_N = np.array([char.isspace() for char in found], dtype=bool)[kind_N]

    def are(self, char: str) -> NDArray[np.bool_]:
        """[N + 1], whether the character at each place is this one."""
        return np.append(self._codes_N == ord(char), False)

    def cluster_ends(self) -> Ints:
        """[N + 1], from each place on the first where no character joins the one before."""
        return _next(~self._joins_N)

    def ink_starts(self) -> Ints:
        """[N + 1], from each place on the first with a character that is no white space, or N."""
        return _next(~self._blank_N)

    def ink_ends(self) -> Ints:
        """[N + 1], the place behind the last character before each place that is no white space, or 0."""
        behind = np.arange(1, len(self._blank_N) + 1)
        return np.concatenate([[0], np.maximum.accumulate(np.where(self._blank_N, 0, behind))]).astype(np.int64)


def _next(is_N: NDArray[np.bool_]) -> Ints:
    places = np.where(np.append(is_N, True), np.arange(len(is_N) + 1), len(is_N))
    return np.minimum.accumulate(places[::-1])[::-1]


def places_in_text(text: str, copy: str) -> tuple[Ints, Ints]:
    """For each character of a text's marked copy, C of them, and for its end: [start, end) [C + 1] in the text.

    A mark starts where the next character does and ends where the one before does.
    """
    is_mark = np.array([char == JOINER for char in copy], dtype=bool)
    starts, ends = _cluster_places(text, int((~is_mark).sum()))
    behind = np.cumsum(~is_mark)
    return starts[np.append(behind - ~is_mark, len(starts) - 1)], np.append(0, ends)[np.append(behind, len(ends))]


def _cluster_places(text: str, num_composed: int) -> tuple[Ints, Ints]:
    """Starts, the text's end behind them, and ends in the text of the characters of its copy without marks."""
    copy = text.replace(JOINER, "\ufffd")
    cuts = [place for place, char in enumerate(copy) if not (place and joins_before(char))]
    clusters = list(pairwise([*cuts, len(copy)]))
    sizes = [len(_NFC.normalize_str(copy[start:end])) for start, end in clusters]
    if sum(sizes) != num_composed or num_composed == len(copy):  # not composed, or nothing to compose
        clusters, sizes = [(place, place + 1) for place in range(len(copy))], [1] * len(copy)
    assert sum(sizes) == num_composed, "NFC within clusters gives the NFC of the whole"
    starts_ends = np.array(clusters, dtype=np.int64).reshape(-1, 2).repeat(sizes, axis=0)
    return np.append(starts_ends[:, 0], len(text)), starts_ends[:, 1]
