"""Similarity: a score for two texts, as alike as people find them.

The model learns scores from 0 to 1, (score - low) / (high - low); predictions and metrics are in the set's own scores.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from tokenizers import Tokenizer

from reforge.corpora.labelled import Example, Gives
from reforge.heads import Head, Level, Outputs
from reforge.models import Backbone
from reforge.spec import Problem, UserError
from reforge.tasks.augmentation import Augmentation
from reforge.tasks.task import Array, Row, Scorecard, Task, TaskModel, TaskOptions, Verdict
from reforge.tasks.text_model import ScoreModel
from reforge.tasks.text_rows import TextRows, shown, text_example
from reforge.tokenizers import Vocabulary


class SimilarityOptions(TaskOptions):
    """A score for a pair of texts. Predictions are not clipped to low and high.

    low, high: the lowest and the highest score that there can be
    augment: how texts are changed while training
    """

    kind: Literal["similarity"] = "similarity"
    low: float = 0.0
    high: float = 5.0
    augment: Augmentation = Augmentation()
    gives: ClassVar[Gives] = "texts"
    level: ClassVar[Level] = "text"
    single_score: ClassVar[bool] = True
    num_segments: ClassVar[int] = 2
    default_head: ClassVar[str] = "regression"
    default_metric: ClassVar[str] = "spearman"
    metric_names: ClassVar[tuple[str, ...]] = ("spearman", "pearson", "mse")

    @property
    def goal(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that tells the best weights, and which way: correlations up, errors down."""
        metric, mode = super().goal
        return metric, "min" if metric == "mse" else mode

    def problems(self) -> Iterator[Problem]:
        """The metric is one that the task reports, and the scores have a range."""
        yield from super().problems()
        if self.low >= self.high:
            yield Problem(("high",), f"must be above low ({self.low:g})", self.high)

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """(); raises UserError where all scores are the same."""
        scores = self.scores(examples)
        if len(set(scores)) < 2:
            raise UserError(
                f"all {len(examples):,} training examples ({examples[0].key} to {examples[-1].key}) have the score "
                f"{scores[0]:g}: there is nothing to tell apart"
            )
        return ()

    def scores(self, examples: Sequence[Example]) -> list[float]:
        """The true scores; raises UserError, with the example's key, at one that can't be."""
        return [self._score(example) for example in examples]

    def _score(self, example: Example) -> float:
        score = text_example(example).label
        if score is None:
            raise UserError(f"{example.key}: has no score")
        if isinstance(score, str):
            raise UserError(
                f'{example.key}: its label "{score}" is a class, and this task takes scores: read the set with '
                "`score: true`, or take task.kind: pair"
            )
        if not self.low <= score <= self.high:
            raise UserError(
                f"{example.key}: its score {score:g} is not between {self.low:g} (task.low) and {self.high:g} "
                "(task.high)"
            )
        return float(score)

    def bind(self, labels: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> "SimilarityTask":
        """The task on a tokenizer."""
        assert labels == (), labels
        return SimilarityTask(self, tokenizer, block_tokens)


class SimilarityTask(Task):
    """A score for each pair of texts."""

    outputs = Outputs(1, "text")
    num_segments = SimilarityOptions.num_segments
    metric_names = SimilarityOptions.metric_names

    def __init__(self, options: SimilarityOptions, tokenizer: Tokenizer, block_tokens: int) -> None:
        self.options = options
        self.num_special = Vocabulary.of(tokenizer).num_special
        self.text_rows = TextRows(tokenizer, block_tokens, pairs=True)
        self.undefined: set[str] = set()

    def rows(self, examples: Sequence[Example], labelled: bool = True) -> Iterator[Row]:
        """A row for each example, its score from 0 to 1 among the extras as `score`."""
        if not labelled:
            return self.text_rows.of(examples)
        low, high = self.options.low, self.options.high
        scaled = [(score - low) / (high - low) for score in self.options.scores(examples)]
        return self.text_rows.of(examples, [{"score": np.array(score, dtype=np.float32)} for score in scaled])

    def build(self, backbone: Backbone, head: Head) -> TaskModel:
        """The model."""
        return ScoreModel(backbone, head, self.options.augment, self.num_special)

    def digest(self, row: Row, outputs: Mapping[str, Array]) -> float:
        """The score as the model gives it."""
        return float(outputs["score_B"])

    def predict(self, examples: Sequence[Example], digests: Sequence[Sequence[Any]]) -> list[float]:
        """The scores between low and high, or a little beyond."""
        low, high = self.options.low, self.options.high
        return [low + score * (high - low) for [score] in digests]

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Scorecard:
        """Correlations as scipy's, and the mean squared error.

        A correlation with scores that are all the same is undefined: 0 stands in its place, and a note says so.
        """
        from scipy.stats import pearsonr, spearmanr  # here: it takes a second, and most processes score nothing

        gold_N, guess_N = np.array(self.options.scores(examples)), np.array(predictions, dtype=np.float64)
        constant = [what for what, scores in (("true", gold_N), ("predicted", guess_N)) if np.ptp(scores) == 0]
        self.undefined.update(constant)
        return Scorecard(
            {
                "spearman": 0.0 if constant else float(spearmanr(gold_N, guess_N).statistic),
                "pearson": 0.0 if constant else float(pearsonr(gold_N, guess_N).statistic),
                "mse": float(np.square(gold_N - guess_N).mean()),
            }
        )

    def as_json(self, example: Example, prediction: Any) -> dict[str, Any]:
        """Key, texts, the score, and the true one where it is known."""
        key, text, pair, gold = text_example(example)
        known_gold = {} if gold is None else {"gold": gold}
        return {"key": key, "text": text, "pair": pair, "score": prediction, **known_gold}

    def verdict(self, example: Example, prediction: Any) -> Verdict:
        """As bad as the score is far off."""
        [gold] = self.options.scores([example])
        return Verdict(abs(gold - prediction), shown(text_example(example)), f"{gold:g}", f"{prediction:.3g}")

    def notes(self) -> list[str]:
        """What was cut, and whether a correlation was undefined."""
        undefined = [
            f"all {what} scores of a set were the same: its correlations are undefined, and reported as 0"
            for what in sorted(self.undefined)
        ]
        return [*self.text_rows.notes(), *undefined]
