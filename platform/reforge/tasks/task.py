"""What every fine-tuning task is: examples to rows, outputs to predictions, predictions to the field's scores.

    examples --rows--> Rows --TaskModel--> outputs of each row --predict--> a prediction for each example --score-->
        Scorecard

A long example is several rows (windows); its prediction is made of all of them, so that a score is always over whole
examples. Shapes: T tokens of a row, B batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from reforge.batches import Batch
from reforge.corpora.labelled import Example, Gives
from reforge.heads import Head, Level, Outputs
from reforge.models import Backbone
from reforge.objectives import Inputs, Learner, Scores
from reforge.spec import Part, Problem

Array = NDArray[Any]
PAD_ID = 0


@dataclass(frozen=True)
class Row:
    """What the model reads at once: an example, or a window of it.

    example: its index in the set
    ids: [T], special tokens included, [CLS] first
    segments: [T], 0 in the first text and 1 in the second, or None where there is one text
    extras: targets and places by name, each [] or [n]; those of a batch are padded with zeros to the longest. A name
        stands in all rows of a set or in none
    """

    example: int
    ids: Array
    segments: Array | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Confusion:
    """How often each true class (rows) was taken for each class (columns)."""

    names: tuple[str, ...]
    counts: Array


@dataclass(frozen=True)
class Scorecard:
    """A set's scores.

    metrics: by name, the task's main metric first; shares are between 0 and 1
    per_class: precision, recall, f1 and support of each class or entity type
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: Confusion | None = None


class Verdict(NamedTuple):
    """A prediction beside the truth, for people.

    badness: how wrong, by the task's own measure: 0 is right, and the highest comes first in the list of errors
    """

    badness: float
    text: str
    gold: str
    guess: str


class TaskModel(Learner):
    """A backbone and a head. Its loss is a mean over targets; `assess` also gives what predictions are made of."""

    backbone: Backbone
    head: Head
    terms: Mapping[str, float] = {"loss": 1.0}

    @abstractmethod
    def assess(self, **tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """For collated inputs: the loss summed over targets (0 where the rows have none), and outputs [B, ...]."""

    def forward(self, **tensors: Tensor) -> Scores:
        """The summed loss of collated inputs."""
        return Scores({"loss": self.assess(**tensors)[0]}, {})

    @abstractmethod
    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Inputs of a batch; rows whose first id is [PAD] are blank and have no target.

        What is random in training (augmentation) is a function of (seed, epoch, sample), and off where the epoch is
        negative.
        """


class Task(ABC):
    """A task with its labels known, on a tokenizer.

    outputs: what the head has to give
    num_segments: how many kinds of segment its rows tell apart, 0 for none
    metric_names: the figures of `Scorecard.metrics`, the main one first
    """

    outputs: Outputs
    num_segments: int
    metric_names: tuple[str, ...]

    @abstractmethod
    def rows(self, examples: Sequence[Example], labelled: bool = True) -> Iterator[Row]:
        """The rows of all examples in order, each example's together; targets among them where `labelled`.

        Raises UserError, with the example's key, at one that cannot be a row or has a label nobody knows.
        """

    @abstractmethod
    def build(self, backbone: Backbone, head: Head) -> TaskModel:
        """The model."""

    @abstractmethod
    def digest(self, row: Row, outputs: Mapping[str, Array]) -> Any:
        """What `predict` needs of one row's outputs (without the batch's dimension); small, and picklable."""

    @abstractmethod
    def predict(self, examples: Sequence[Example], digests: Sequence[Sequence[Any]]) -> list[Any]:
        """The prediction of each example from its rows' digests, in their order."""

    @abstractmethod
    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Scorecard:
        """The scores of a whole labelled set."""

    @abstractmethod
    def as_json(self, example: Example, prediction: Any) -> dict[str, Any]:
        """A line of the predictions file: the example's key, the guess, and the truth where it is known."""

    @abstractmethod
    def verdict(self, example: Example, prediction: Any) -> Verdict:
        """The prediction beside the truth."""

    def notes(self) -> list[str]:
        """Lines on what was done to the examples so far (texts cut short, units without a token)."""
        return []


class TaskOptions(Part, ABC):
    """The `task:` section of a job spec.

    gives: the form of examples that the task takes
    level: what its head answers
    single_score: whether that is one number, and no class
    metric: the figure that tells the best weights, one of the task's metric names or "loss"
    """

    kind: str
    gives: ClassVar[Gives]
    level: ClassVar[Level]
    single_score: ClassVar[bool] = False
    num_segments: ClassVar[int] = 0
    default_head: ClassVar[str]
    default_metric: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]]
    metric: str | None = None

    @property
    def goal(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that tells the best weights, and which way."""
        metric = self.metric or self.default_metric
        return metric, "min" if metric == "loss" else "max"

    def problems(self) -> Iterator[Problem]:
        """The metric is one that the task reports."""
        names = (*self.metric_names, "loss")
        if self.metric is not None and self.metric not in names:
            yield Problem(("metric",), f"must be one of {', '.join(names)}", self.metric)

    def settle(self, examples: Sequence[Example]) -> Self:
        """These options with all decided that hangs on the training set; `bind` takes no others.

        Raises UserError where an option speaks of what the set does not have.
        """
        return self

    @abstractmethod
    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The classes or tags of a training set, sorted; () where the task has none.

        Raises UserError where the set cannot be learnt from (a single class).
        """

    @abstractmethod
    def bind(self, labels: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> Task:
        """The task on a tokenizer, with rows of at most `block_tokens` tokens."""
