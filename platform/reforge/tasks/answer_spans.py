"""From scores of starts and ends to an answer: the best spans of each window, the best of all windows.

A span's score is its start's and its end's together, beyond those of [CLS], which stands for "not in this window": each
window is a softmax of its own, so that only such differences compare between windows.

Shapes: N pieces of the context in a window, A the most pieces of an answer, K spans.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reforge.tasks.task import Array


class Spans(NamedTuple):
    """The best spans of a window, the best first.

    starts, ends: [K], [start, end) in characters of the context
    scores: [K], the sum of a span's two scores
    null: the sum of [CLS]'s two
    """

    starts: Array
    ends: Array
    scores: Array
    null: float


class Answered(NamedTuple):
    """What a question was answered.

    text: "" for no answer
    start: in characters of the context; None for no answer
    score: the share of it in a softmax over the best spans of all windows
    """

    text: str
    start: int | None
    score: float


def best_pieces(start_N: Array, end_N: Array, max_pieces: int, num_best: int) -> tuple[Array, Array, Array]:
    """First piece, last piece and score of the best spans [K], the best first, of at most `max_pieces` pieces."""
    padded = np.concatenate([end_N, np.full(max_pieces, -np.inf, end_N.dtype)])
    ends_NA = np.lib.stride_tricks.sliding_window_view(padded, max_pieces)[:-1]
    scores = (start_N[:, None] + ends_NA).ravel()
    best = np.argpartition(scores, -num_best)[-num_best:] if num_best < scores.size else np.arange(scores.size)
    best = best[np.lexsort((best, -scores[best]))]
    best = best[scores[best] > -np.inf]
    firsts, lengths = np.divmod(best, max_pieces)
    return firsts, firsts + lengths, scores[best]


def best_answer(context: str, windows: Sequence[Spans], null_threshold: float | None) -> Answered:
    """The best span of all windows.

    null_threshold: no answer where the best is not above [CLS] by more than this; None always answers where it can
    """
    margins = _margins(windows)
    best = max(margins, key=margins.__getitem__, default=None)
    if best is None:
        return Answered("", None, 1.0)
    shares = _softmax([*margins.values(), *([] if null_threshold is None else [null_threshold])])
    if null_threshold is not None and margins[best] <= null_threshold:
        return Answered("", None, shares[-1])
    start, end = best
    found = context[start:end]
    return Answered(found.strip(), start + len(found) - len(found.lstrip()), max(shares))


def _margins(windows: Sequence[Spans]) -> dict[tuple[int, int], float]:
    """How far each span is above [CLS], in the window where it is farthest."""
    margins: dict[tuple[int, int], float] = {}
    for window in windows:
        found = zip(window.starts.tolist(), window.ends.tolist(), (window.scores - window.null).tolist(), strict=True)
        for start, end, margin in found:
            margins[start, end] = max(margin, margins.get((start, end), -math.inf))
    return margins


def _softmax(scores: list[float]) -> list[float]:
    weights = np.exp(np.array(scores) - max(scores))
    shares: list[float] = (weights / weights.sum()).tolist()
    return shares
