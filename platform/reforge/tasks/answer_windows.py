"""From questions to rows: windows of the context beside the question, and where the answer is in each.

    [CLS] question [SEP] window of the context [SEP]
     0       0       0     1                     1     segments

An answer that begins or ends inside a token is the tokens that cover it. In a window that does not hold it wholly the
answer is [CLS] (Devlin et al. 2018, section 4.3).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from reforge.corpora.labelled import Answer, Example, QuestionExample
from reforge.spec import UserError
from reforge.tasks.task import Array, Row
from reforge.tasks.text_rows import ENCODED_AT_ONCE, NUM_FRAME_TOKENS, framed, second_text
from reforge.tasks.windows import cut
from reforge.tokenizers.offsets import OffsetEncoder, Pieces

# What a row says beside its ids, by name.
CONTEXT = "context"  # [2], [start, stop) of the window's tokens in the row
CHAR_STARTS, CHAR_ENDS = "char_starts", "char_ends"  # [n], where those stand in the context's characters
ANSWER = "answer"  # [2], first and last token of the answer in the row; 0, which is [CLS], where it is not there
DRAWN = "drawn"  # [], share of the epochs that train on the row


class Layout(NamedTuple):
    """How questions become rows; the fields are those of the task's options.

    block_tokens: of the longest row
    """

    block_tokens: int
    max_question_tokens: int
    overlap_tokens: int
    negatives_per_question: float

    @property
    def least_room(self) -> int:
        """Tokens of a window beside the longest question."""
        return self.room(self.max_question_tokens)

    def room(self, question_tokens: int) -> int:
        """Tokens of a window beside a question."""
        return self.block_tokens - NUM_FRAME_TOKENS[True] - question_tokens

    def windows(self, question_tokens: int, context_tokens: int) -> list[tuple[int, int]]:
        """[start, stop) of each window; one at least."""
        room = self.room(question_tokens)
        # Half a window at most is seen twice, so that short blocks do not go on by a few tokens at a time.
        return cut(context_tokens, room, room - min(self.overlap_tokens, room // 2))


class AnswerWindows:
    """Rows of questions about contexts; it counts what it cut and which answers lie in no window."""

    def __init__(self, tokenizer: Tokenizer, layout: Layout) -> None:
        assert layout.least_room > 0, layout
        self.encoder = OffsetEncoder(tokenizer)
        self.layout = layout
        self.num_questions = self.num_cut = self.num_windows = 0
        self.num_answers = self.num_unheld = self.num_inside = 0

    def of(self, examples: Sequence[Example], labelled: bool) -> Iterator[Row]:
        """The windows of all examples, each example's together and in order; UserError where an answer is missing."""
        for start in range(0, len(examples), ENCODED_AT_ONCE):
            part = [question_example(example) for example in examples[start : start + ENCODED_AT_ONCE]]
            contexts = list(dict.fromkeys(example.context for example in part))
            pieces = dict(zip(contexts, self.encoder.encode(contexts), strict=True))
            questions = self.encoder.encode([example.question for example in part])
            for number, (example, question) in enumerate(zip(part, questions, strict=True), start):
                yield from self._rows(number, example, question.ids, pieces[example.context], labelled)

    def notes(self) -> list[str]:
        """How many windows there are, and what was cut or is out of reach."""
        if not self.num_questions:
            return []
        lines = [f"{self.num_windows:,} windows of the contexts of {self.num_questions:,} questions"]
        if self.num_cut:
            limit = f"{self.layout.max_question_tokens} tokens (task.max_question_tokens)"
            lines.append(f"{self.num_cut:,} questions were longer than {limit} and lost their end")
        if self.num_unheld:
            lines.append(
                f"{self.num_unheld:,} of {self.num_answers:,} answers lie in no window as a whole: "
                "task.overlap_tokens or data.block_tokens is too small for them"
            )
        if self.num_inside:
            lines.append(
                f"{self.num_inside:,} of {self.num_answers:,} answers begin or end inside a token, which exact "
                "match does not forgive; tokenizer.pretokenize: mecab parts Korean words from their particles"
            )
        return lines

    def _rows(
        self, number: int, example: QuestionExample, question: Array, context: Pieces, labelled: bool
    ) -> Iterator[Row]:
        limit = self.layout.max_question_tokens
        self.num_questions += 1
        self.num_cut += len(question) > limit
        question = question[:limit]
        windows = self.layout.windows(len(question), len(context.ids))
        self.num_windows += len(windows)
        targets = self._targets(example, context, windows, 2 + len(question)) if labelled else [{} for _ in windows]
        for (start, stop), target in zip(windows, targets, strict=True):
            ids = framed(question, context.ids[start:stop])
            extras = {
                CONTEXT: np.array([2 + len(question), len(ids) - 1], np.int32),
                CHAR_STARTS: context.starts[start:stop].astype(np.int32),
                CHAR_ENDS: context.ends[start:stop].astype(np.int32),
            }
            yield Row(number, ids, second_text(ids), {**extras, **target})

    def _targets(
        self, example: QuestionExample, context: Pieces, windows: list[tuple[int, int]], offset: int
    ) -> list[dict[str, Array]]:
        """What each window's row says of the answer, when the context begins at token `offset` of a row."""
        if example.answers is None:
            raise UserError(f"question {example.key}: its answer must be known here")
        span = pieces_of(example.answers[0], context) if example.answers else None
        holds = [span is not None and start <= span[0] and span[1] < stop for start, stop in windows]
        if example.answers:
            self._count(example.answers[0], example.context, context, span, any(holds))
        share = min(1.0, self.layout.negatives_per_question / max(1, holds.count(False)))
        return [
            {
                ANSWER: np.array(span, np.int32) - start + offset if held else np.zeros(2, np.int32),
                DRAWN: np.array(1.0 if held else share, np.float32),
            }
            for (start, _), held in zip(windows, holds, strict=True)
        ]

    def _count(self, answer: Answer, text: str, context: Pieces, span: tuple[int, int] | None, is_held: bool) -> None:
        self.num_answers += 1
        self.num_unheld += not is_held
        if span is not None:
            covered = text[context.starts[span[0]] : context.ends[span[1]]]
            self.num_inside += covered.strip() != answer.text.strip()


def question_example(example: Example) -> QuestionExample:
    """The example, which is a question."""
    assert isinstance(example, QuestionExample), example
    return example


def pieces_of(answer: Answer, context: Pieces) -> tuple[int, int] | None:
    """First and last of the fewest pieces that cover the answer; None where no piece is in it."""
    first = int(np.searchsorted(context.ends, answer.start, side="right"))
    last = int(np.searchsorted(context.starts, answer.start + len(answer.text), side="left")) - 1
    return (first, last) if first <= last else None
