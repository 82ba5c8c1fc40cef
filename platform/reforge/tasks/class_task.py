"""What classification and pair have in common: a class for each example."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from tokenizers import Tokenizer

from reforge.corpora.labelled import Example, Gives
from reforge.heads import Head, Level, Outputs
from reforge.models import Backbone
from reforge.spec import UserError
from reforge.tasks.augmentation import Augmentation
from reforge.tasks.class_names import balanced_weights, class_indices, class_name, class_names, known, weights_of
from reforge.tasks.class_scores import class_scorecard
from reforge.tasks.task import Array, Row, Scorecard, Task, TaskModel, TaskOptions, Verdict
from reforge.tasks.text_model import ClassModel
from reforge.tasks.text_rows import TextRows, shown, text_example
from reforge.tokenizers import Vocabulary

Weight = Annotated[float, Field(gt=0)]


class ClassOptions(TaskOptions):
    """How classes are learnt.

    class_weights: of each class in the loss, a weighted mean: `balanced` makes all weigh the same together; or by name,
        {positive: 2.0}, the others weigh 1
    label_smoothing: share of the target that is spread over all classes
    augment: how texts are changed while training
    """

    class_weights: Literal["none", "balanced"] | dict[str, Weight] = "none"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: Augmentation = Augmentation()
    gives: ClassVar[Gives] = "texts"
    level: ClassVar[Level] = "text"
    default_head: ClassVar[str] = "linear"
    default_metric: ClassVar[str] = "accuracy"

    def settle(self, examples: Sequence[Example]) -> Self:
        """With balanced class weights as numbers."""
        if self.class_weights != "balanced":
            return self
        return self.model_copy(update={"class_weights": balanced_weights(examples)})

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The classes, in order; raises UserError where there is one only, or an option names another."""
        names = class_names(examples)
        for name in self.class_weights if isinstance(self.class_weights, dict) else ():
            if name not in names:
                raise UserError(f'task.class_weights: no training example is of class "{name}": {known(name, names)}')
        return names

    def weights(self, names: tuple[str, ...]) -> tuple[float, ...] | None:
        """The weight of each class, None where all weigh 1."""
        return weights_of(self.class_weights, names)


class ClassPrediction(NamedTuple):
    """A class, and the probability of each in the order of the task's labels."""

    label: str
    probabilities: tuple[float, ...]


class ClassTask(Task):
    """A class for each text or pair of texts, of those that training saw."""

    metric_names: tuple[str, ...] = ("accuracy", "macro_f1")

    def __init__(self, options: ClassOptions, names: tuple[str, ...], tokenizer: Tokenizer, rows: TextRows) -> None:
        self.options, self.names = options, names
        self.num_segments = options.num_segments
        self.num_special = Vocabulary.of(tokenizer).num_special
        self.text_rows = rows
        self.outputs = Outputs(len(names), "text", names)

    def rows(self, examples: Sequence[Example], labelled: bool = True) -> Iterator[Row]:
        """A row for each example, its class among the extras as `label`."""
        if not labelled:
            return self.text_rows.of(examples)
        return self.text_rows.of(
            examples, [{"label": np.array(index)} for index in class_indices(examples, self.names)]
        )

    def build(self, backbone: Backbone, head: Head) -> TaskModel:
        """The model."""
        options = self.options
        return ClassModel(
            backbone, head, options.augment, self.num_special, options.weights(self.names), options.label_smoothing
        )

    def digest(self, row: Row, outputs: Mapping[str, Array]) -> Array:
        """The logits [K]."""
        return np.array(outputs["logits_BK"], dtype=np.float64)

    def predict(self, examples: Sequence[Example], digests: Sequence[Sequence[Any]]) -> list[ClassPrediction]:
        """The most probable class of each example; of equals the first."""
        logits_NK = torch.from_numpy(np.array([logits_K for [logits_K] in digests]).reshape(-1, len(self.names)))
        found = zip(logits_NK.argmax(1).tolist(), logits_NK.softmax(1).tolist(), strict=True)
        return [ClassPrediction(self.names[best], tuple(probabilities)) for best, probabilities in found]

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Scorecard:
        """The scores of classes."""
        gold = class_indices(examples, self.names)
        return class_scorecard(gold, [self.names.index(prediction.label) for prediction in predictions], self.names)

    def as_json(self, example: Example, prediction: Any) -> dict[str, Any]:
        """Key, texts, the class, the probability of each class, and the true class where it is known."""
        key, text, pair, gold = text_example(example)
        return {
            "key": key,
            "text": text,
            **({} if pair is None else {"pair": pair}),
            "label": prediction.label,
            "probabilities": dict(zip(self.names, prediction.probabilities, strict=True)),
            **({} if gold is None else {"gold": gold}),
        }

    def verdict(self, example: Example, prediction: Any) -> Verdict:
        """A wrong class is as bad as -log of what the true one was given; a right one is 0."""
        gold = class_name(example)
        probability = prediction.probabilities[self.names.index(gold)]
        badness = 0.0 if prediction.label == gold else -float(np.log(max(probability, np.finfo(np.float64).tiny)))
        return Verdict(badness, shown(text_example(example)), gold, prediction.label)

    def notes(self) -> list[str]:
        """What was cut."""
        return self.text_rows.notes()
