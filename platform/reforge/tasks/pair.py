"""Pair: the class of two texts, such as whether one follows from the other, or whether they ask the same."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from tokenizers import Tokenizer

from reforge.corpora.labelled import Example
from reforge.spec import UserError
from reforge.tasks.class_names import known
from reforge.tasks.class_task import ClassOptions, ClassTask
from reforge.tasks.task import Scorecard
from reforge.tasks.text_rows import TextRows


class PairOptions(ClassOptions):
    """The class of a pair of texts, of those in the training set.

    positive: the class whose F1 is reported as f1; null: of two classes the last, of more none
    """

    kind: Literal["pair"] = "pair"
    positive: str | None = None
    num_segments: ClassVar[int] = 2
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "f1")

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The classes, in order; raises UserError where there is one only, or an option names another."""
        names = super().labels(examples)
        if self.positive is not None and self.positive not in names:
            raise UserError(
                f'task.positive: no training example is of class "{self.positive}": {known(self.positive, names)}'
            )
        if self.metric == "f1" and self.positive_of(names) is None:
            raise UserError(f"task.metric: f1 of {len(names)} classes needs task.positive, one of {known('', names)}")
        return names

    def positive_of(self, names: tuple[str, ...]) -> str | None:
        """The class that f1 is of."""
        return names[-1] if self.positive is None and len(names) == 2 else self.positive

    def bind(self, labels: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> "PairTask":
        """The task on a tokenizer."""
        return PairTask(self, labels, tokenizer, TextRows(tokenizer, block_tokens, pairs=True))


class PairTask(ClassTask):
    """A class for each pair of texts."""

    def __init__(self, options: PairOptions, names: tuple[str, ...], tokenizer: Tokenizer, rows: TextRows) -> None:
        super().__init__(options, names, tokenizer, rows)
        self.positive = options.positive_of(names)
        if self.positive is not None:
            self.metric_names = (*self.metric_names, "f1")

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Scorecard:
        """The scores of classes, and the positive one's F1."""
        card = super().score(examples, predictions)
        if self.positive is not None:
            card.metrics["f1"] = card.per_class[self.positive]["f1"]
        return card
