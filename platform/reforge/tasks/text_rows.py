"""Texts and pairs of texts as rows, and what is cut from those that are too long.

[CLS] text [SEP]      [CLS] text [SEP] pair [SEP]
                       0    0    0     1    1     segments
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from reforge.corpora.labelled import Example, TextExample
from reforge.spec import UserError
from reforge.tasks.task import Array, Row
from reforge.tokenizers import SPECIAL_TOKENS, Encoder

Truncate = Literal["end", "start", "middle"]
CLS_ID, SEP_ID = SPECIAL_TOKENS.index("[CLS]"), SPECIAL_TOKENS.index("[SEP]")
NUM_FRAME_TOKENS = {False: 2, True: 3}  # special tokens of a row of one text, and of two
ENCODED_AT_ONCE = 1024


class TextRows:
    """Rows of at most `block_tokens` tokens from single texts, or from pairs; it counts what it had to cut.

    truncate: what a single text that is too long loses; a pair loses the end of its longer text first, then of both
    """

    def __init__(self, tokenizer: Tokenizer, block_tokens: int, pairs: bool, truncate: Truncate = "end") -> None:
        self.room = block_tokens - NUM_FRAME_TOKENS[pairs]
        assert self.room > 0, f"no room for a text in {block_tokens} tokens"
        self.encoder = Encoder(tokenizer)
        self.block_tokens = block_tokens
        self.pairs = pairs
        self.truncate: Truncate = truncate
        self.num_rows = self.num_cut = 0

    def of(self, examples: Sequence[Example], extras: Sequence[Mapping[str, Array]] | None = None) -> Iterator[Row]:
        """A row for each example, with what belongs to it; raises UserError at one of another form."""
        for start in range(0, len(examples), ENCODED_AT_ONCE):
            part = [self._checked(example) for example in examples[start : start + ENCODED_AT_ONCE]]
            firsts = self.encoder.encode([example.text for example in part])
            seconds = self.encoder.encode([example.pair or "" for example in part]) if self.pairs else firsts
            for number, (first, second) in enumerate(zip(firsts, seconds, strict=True), start):
                own = {} if extras is None else extras[number]
                ids = self._joined(first, second) if self.pairs else self._single(first)
                yield Row(number, ids, second_text(ids) if self.pairs else None, own)

    def notes(self) -> list[str]:
        """How many rows lost tokens."""
        if not self.num_cut:
            return []
        what = "pairs" if self.pairs else "texts"
        lost = "the end of the longer text" if self.pairs else f"their {self.truncate}"
        return [
            f"{self.num_cut:,} of {self.num_rows:,} {what} did not fit in {self.block_tokens:,} tokens and lost {lost}"
        ]

    def _checked(self, example: Example) -> TextExample:
        text = text_example(example)
        if (text.pair is not None) == self.pairs:
            return text
        if self.pairs:
            raise UserError(f"{example.key}: this task takes pairs of texts, and here is one text")
        raise UserError(f"{example.key}: this task takes single texts, and here is a pair: take task.kind: pair")

    def _single(self, ids: Array) -> Array:
        self._count(len(ids))
        return framed(cut(ids, self.room, self.truncate))

    def _joined(self, first: Array, second: Array) -> Array:
        self._count(len(first) + len(second))
        num_first, num_second = longest_first(len(first), len(second), self.room)
        return framed(first[:num_first], second[:num_second])

    def _count(self, num_tokens: int) -> None:
        self.num_rows += 1
        self.num_cut += num_tokens > self.room


def text_example(example: Example) -> TextExample:
    """The example, which is a text or a pair of texts."""
    assert isinstance(example, TextExample), example
    return example


def shown(example: TextExample) -> str:
    """The example's texts in one line of text."""
    return example.text if example.pair is None else f"{example.text} / {example.pair}"


def framed(*texts: Array) -> Array:
    """The ids of a row: [CLS], and [SEP] behind each text."""
    parts = [np.array([CLS_ID])]
    for text in texts:
        parts += [text, np.array([SEP_ID])]
    return np.concatenate(parts).astype(np.int32)


def second_text(ids_T: Array) -> Array:
    """The segments of a row: 0 up to the first [SEP], 1 behind it."""
    is_sep_T = ids_T == SEP_ID
    segments_T: Array = ((is_sep_T.cumsum() - is_sep_T) > 0).astype(np.int8)
    return segments_T


def cut(ids: Array, room: int, truncate: Truncate) -> Array:
    """At most `room` tokens: without the end, the start or the middle (Sun et al. 2019, section 5.3.1)."""
    if len(ids) <= room:
        return ids
    if truncate == "end":
        return ids[:room]
    if truncate == "start":
        return ids[-room:]
    num_last = room // 2
    return np.concatenate([ids[: room - num_last], ids[len(ids) - num_last :]])


def longest_first(num_first: int, num_second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts stay where the longer one loses a token until both fit, the second at a draw."""
    half = room // 2
    if num_first + num_second <= room:
        return num_first, num_second
    if num_second <= half:
        return room - num_second, num_second
    if num_first <= room - half:
        return num_first, room - num_first
    return room - half, half
