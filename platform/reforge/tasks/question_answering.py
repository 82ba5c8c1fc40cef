"""Reading: the stretch of a context that answers a question.

    question, context --windows--> rows --SpanModel--> scores of starts and ends --best spans of each window-->
        the best of all windows --scorer--> exact match, F1

Shapes: T tokens of a row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from tokenizers import Tokenizer

from reforge.corpora.labelled import Example, Gives, QuestionExample
from reforge.heads import Head, Level, Outputs
from reforge.models import Backbone
from reforge.spec import UserError
from reforge.tasks.answer_scores import ANSWER_SCORERS, Match, ScorerName
from reforge.tasks.answer_spans import Answered, Spans, best_answer, best_pieces
from reforge.tasks.answer_windows import CHAR_ENDS, CHAR_STARTS, CONTEXT, AnswerWindows, Layout, question_example
from reforge.tasks.class_scores import class_scorecard
from reforge.tasks.span_model import SpanModel
from reforge.tasks.task import Array, Row, Scorecard, Task, TaskModel, TaskOptions, Verdict

NO_ANSWER = "(no answer)"  # the one label, of sets that have such questions; and for people
_EXCERPT_CHARS = 60


class QuestionAnsweringOptions(TaskOptions):
    """Questions about contexts that may be longer than a block: windows of it are read one by one.

    max_question_tokens: a longer question loses its end
    max_answer_tokens: no longer answer is given
    overlap_tokens: what a window has in common with the one before it, at most half of it
    negatives_per_question: how many of a question's windows without the answer an epoch trains on, drawn anew in each;
        "all" trains on all, which with many windows is mostly on [CLS]
    null_threshold: where the training set has questions without an answer, how far the best span's score has to be
        above that of [CLS] to be given; elsewhere there always is an answer
    num_best: spans of each window that compete for the answer and share its score
    scorer: whose normalisation and F1: KorQuAD's of characters, or SQuAD's of words, without English articles
    """

    kind: Literal["question_answering"] = "question_answering"
    gives: ClassVar[Gives] = "questions"
    level: ClassVar[Level] = "span"
    num_segments: ClassVar[int] = 2
    default_head: ClassVar[str] = "span"
    default_metric: ClassVar[str] = "f1"
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    max_question_tokens: int = Field(64, ge=1)
    max_answer_tokens: int = Field(30, ge=1)
    overlap_tokens: int = Field(128, ge=0)
    negatives_per_question: float | Literal["all"] = 1.0
    null_threshold: float = 0.0
    num_best: int = Field(20, ge=1)
    scorer: ScorerName = "korquad"

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """NO_ANSWER where a question has none, else (). Raises UserError where no question has an answer."""
        answers = [question_example(example).answers for example in examples]
        if not any(answers):
            raise UserError("no question of the training set has an answer: there is nothing to learn")
        return (NO_ANSWER,) if any(found == () for found in answers) else ()

    def bind(self, labels: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> "QuestionAnswering":
        """The task; raises UserError where a block can't hold the longest question beside the longest answer."""
        negatives = float("inf") if self.negatives_per_question == "all" else self.negatives_per_question
        layout = Layout(block_tokens, self.max_question_tokens, self.overlap_tokens, negatives)
        if layout.least_room < self.max_answer_tokens:
            needed = block_tokens - layout.least_room + self.max_answer_tokens
            raise UserError(
                f"data.block_tokens must be at least {needed}, for 3 special tokens, task.max_question_tokens "
                f"({self.max_question_tokens}) and task.max_answer_tokens ({self.max_answer_tokens}); "
                f"got {block_tokens}"
            )
        return QuestionAnswering(self, labels, tokenizer, layout)


class QuestionAnswering(Task):
    """Questions about contexts. A prediction is an `Answered`."""

    outputs = Outputs(2, "span")
    num_segments = QuestionAnsweringOptions.num_segments
    metric_names = QuestionAnsweringOptions.metric_names

    def __init__(
        self, options: QuestionAnsweringOptions, labels: tuple[str, ...], tokenizer: Tokenizer, layout: Layout
    ) -> None:
        self.options = options
        self.scorer = ANSWER_SCORERS[options.scorer]
        self.null_threshold = options.null_threshold if labels else None
        self.windows = AnswerWindows(tokenizer, layout)

    def rows(self, examples: Sequence[Example], labelled: bool = True) -> Iterator[Row]:
        return self.windows.of(examples, labelled)

    def build(self, backbone: Backbone, head: Head) -> TaskModel:
        return SpanModel(backbone, head)

    def digest(self, row: Row, outputs: Mapping[str, Array]) -> Spans:
        """The best spans of the row's window that have text."""
        scores_T2 = outputs["scores_BT2"]
        start, stop = row.extras[CONTEXT]
        firsts, lasts, scores = best_pieces(
            scores_T2[start:stop, 0], scores_T2[start:stop, 1], self.options.max_answer_tokens, self.options.num_best
        )
        starts, ends = row.extras[CHAR_STARTS][firsts], row.extras[CHAR_ENDS][lasts]
        shown = starts < ends
        return Spans(starts[shown], ends[shown], scores[shown], float(scores_T2[0].sum()))

    def predict(self, examples: Sequence[Example], digests: Sequence[Sequence[Spans]]) -> list[Answered]:
        return [
            best_answer(question_example(example).context, windows, self.null_threshold)
            for example, windows in zip(examples, digests, strict=True)
        ]

    def score(self, examples: Sequence[Example], predictions: Sequence[Answered]) -> Scorecard:
        """F1 and exact match; how well questions without an answer are told from others, where there are such."""
        questions = [question_example(example) for example in examples]
        matches = [self._match(*pair) for pair in zip(questions, predictions, strict=True)]
        metrics = {
            "f1": sum(match.f1 for match in matches) / len(matches),
            "exact_match": sum(match.exact for match in matches) / len(matches),
        }
        if all(question.answers for question in questions):
            return Scorecard(metrics)
        truths = [not question.answers for question in questions]
        found = class_scorecard(truths, [not answered.text for answered in predictions], ("answer", NO_ANSWER))
        return Scorecard(metrics, found.per_class, found.confusion)

    def as_json(self, example: Example, prediction: Answered) -> dict[str, Any]:
        question = question_example(example)
        line = {
            "key": question.key,
            "question": question.question,
            "answer": prediction.text,
            "start": prediction.start,
            "score": prediction.score,
        }
        return line if question.answers is None else {**line, "gold": [answer.text for answer in question.answers]}

    def verdict(self, example: Example, prediction: Answered) -> Verdict:
        """How far F1 is from 1; of equally wrong answers the surest comes first."""
        question = question_example(example)
        missing = 1 - self._match(question, prediction).f1
        gold = " | ".join(answer.text for answer in question.answers or ()) or NO_ANSWER
        text = f"{question.question} [{_excerpt(question, prediction)}]"
        return Verdict(missing * (1 + 1e-6 * prediction.score), text, gold, prediction.text or NO_ANSWER)

    def notes(self) -> list[str]:
        return self.windows.notes()

    def _match(self, question: QuestionExample, answered: Answered) -> Match:
        assert question.answers is not None, question.key
        return self.scorer.match(answered.text, [answer.text for answer in question.answers])


def _excerpt(question: QuestionExample, answered: Answered) -> str:
    """The context around the true answer, or around what was answered where there is none."""
    places = [answer.start for answer in question.answers or ()]
    center = places[0] if places else answered.start or 0
    start, stop = max(0, center - _EXCERPT_CHARS), center + _EXCERPT_CHARS
    shown = " ".join(question.context[start:stop].split())
    return ("..." if start else "") + shown + ("..." if stop < len(question.context) else "")
