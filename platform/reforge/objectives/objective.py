"""What every pre-training objective is: a learner whose summed scores become named figures.

    Batch --collate (host, deterministic)--> Inputs --forward (device)--> Scores --metrics--> named floats

Shapes: B batch, T tokens, N targets.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from reforge.models import BackboneOptions, Frame
from reforge.objectives.learner import Inputs, Learner, Scores
from reforge.spec import Part, Problem
from reforge.tokenizers import Vocabulary

__all__ = ["Inputs", "Objective", "ObjectiveOptions", "Pass", "Sample", "Scores", "Totals", "text_metrics"]


class Totals(NamedTuple):
    """Scores and numbers of targets added up over a whole set and all ranks."""

    losses: Mapping[str, float]
    num_targets: Mapping[str, float]
    counts: Mapping[str, float]

    def mean(self, term: str) -> float:
        """Loss of a term in nats a target."""
        return self.losses[term] / max(self.num_targets[term], 1.0)


@dataclass(frozen=True)
class Sample:
    """Something the model did with validation text, to be read by people: what it was given and what it made of it."""

    text: str
    outcome: str


class Objective(Learner):
    """A learner of pre-training, scored by sums over a validation set.

    count_names: the names of `Scores.counts` in evaluation
    metric_names: the figures that `metrics` gives, "loss" (the weighted sum) among them
    """

    count_names: tuple[str, ...] = ()
    metric_names: tuple[str, ...]

    @abstractmethod
    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """Named figures of a set from its summed scores; `tokens_per_byte` is that of the set's text."""

    @abstractmethod
    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[Sample]:
        """One readable sample of what the model does for each of the blocks that has a fit place."""

    def weighted(self, totals: Totals) -> float:
        """The loss: the terms' means by their weights."""
        return sum(weight * totals.mean(term) for term, weight in self.terms.items())


class Pass(NamedTuple):
    """A backbone's pass in a micro-step; for the estimate of memory.

    target_share: share of the tokens whose logits over the vocabulary are computed
    at_targets: whether hidden states are asked for at these only
    """

    model: BackboneOptions
    target_share: float
    at_targets: bool


class ObjectiveOptions(Part, ABC):
    """The `objective:` section of a job spec.

    causal: whether tokens must not see what is after them
    num_segments: how many kinds of segment the inputs tell apart, 0 for none
    needs_partners: whether every sample comes with one of another document (`Batch.partners`)
    metric_names: the figures that its validation gives, "loss" (the weighted sum) among them
    """

    kind: str
    causal: ClassVar[bool] = False
    num_segments: ClassVar[int] = 0
    needs_partners: ClassVar[bool] = False
    metric_names: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def target_share(self) -> float:
        """Share of a block's tokens whose logits are computed at once; for the memory estimate."""

    def passes(self, model: BackboneOptions) -> list[Pass]:
        """The passes of a micro-step, in their order."""
        return [Pass(model, self.target_share, at_targets=not self.causal)]

    @abstractmethod
    def build(self, model: BackboneOptions, vocabulary: Vocabulary, block_tokens: int) -> Objective:
        """The objective's module around a fresh backbone, its own parameters freshly initialised."""

    def fit(self, model: BackboneOptions, block_tokens: int) -> Iterator[Problem]:
        """Why this objective cannot be trained with `model` on such blocks; paths are those of a job spec."""
        yield from model.fit(self.frame(2**24, block_tokens))

    def frame(self, vocab_size: int, block_tokens: int) -> Frame:
        """What the objective's backbone is built for."""
        return Frame(vocab_size, block_tokens, self.causal, self.num_segments)


def text_metrics(loss: float, tokens_per_byte: float) -> dict[str, float]:
    """Perplexity and bits per byte (Gao et al. 2020, section 3.1) of a loss in nats a token.

    Bits per byte is the loss a token spread over the bytes a token covers: it compares across vocabularies, as long as
    they read the text alike (lower case or not) and few words are [UNK], which is never asked for.
    """
    return {"perplexity": math.exp(min(loss, 700.0)), "bits_per_byte": loss / math.log(2) * tokens_per_byte}
