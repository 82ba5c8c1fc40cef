"""What every head is: a module from hidden states to the scores that a task asks for, and the options that build it.

    hidden states of tokens, or of words' first tokens --head--> scores --task--> loss, answers

Shapes: B batch, S units (tokens or words), D d_model, K outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reforge.spec import Part, Problem

Level = Literal["text", "token", "span"]
ANSWERS: dict[Level, str] = {
    "text": "one answer for a text",
    "token": "a tag for each word",
    "span": "the start and the end of an answer",
}
# What cross_entropy passes over.
IGNORED = -100


class Outputs(NamedTuple):
    """What a head is to give.

    size: number of classes or tags; 1 for a score
    names: of classes, or of tags ("O", "B-PER", ...); () for scores and spans
    """

    size: int
    level: Level
    names: tuple[str, ...] = ()


class Head(nn.Module, ABC):
    """A module from hidden states to scores.

    first_only: whether it looks at the first unit of each row alone, so that no other state need be computed
    """

    first_only: bool = False

    @abstractmethod
    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Scores, float32 also under autocast (float64 of a float64 head), of `real_BS` units, True from the left.

        [B, K] of whole texts (level text), [B, S, K] of units (token), [B, S, 2] of starts and ends (span). What is
        not real changes none of the real scores; a row may have no real unit, then its scores mean nothing.
        """


class TokenHead(Head):
    """A head of level token, which also knows its loss and its answers: a tag's may depend on its neighbours'."""

    def loss_sum(
        self,
        scores_BSK: Tensor,
        tags_BS: Tensor,
        real_BS: Tensor,
        weights_K: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Cross-entropy in nats summed over the real units, each times the weight of its tag where weights are given.

        `tags_BS` may hold anything where nothing is real.
        """
        tags_BS = tags_BS.masked_fill(~real_BS, IGNORED)
        return F.cross_entropy(
            scores_BSK.flatten(0, 1),
            tags_BS.flatten(),
            weights_K,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def decode(self, scores_BSK: Tensor, real_BS: Tensor) -> Tensor:
        """The best tags [B, S], each unit's on its own; 0 where nothing is real."""
        return scores_BSK.argmax(-1).masked_fill(~real_BS, 0)


class HeadOptions(Part, ABC):
    """The `head:` section of a job spec.

    dropout: of what comes into the head's layers, while training
    """

    kind: str
    dropout: float = Field(0.1, ge=0, lt=1)
    levels: ClassVar[frozenset[Level]]
    # Whether the loss of its scores can weigh classes and smooth labels.
    supports_class_weights: ClassVar[bool] = False
    # Whether it gives one score, however many classes there are.
    single_score: ClassVar[bool] = False

    @abstractmethod
    def build(self, d_model: int, outputs: Outputs) -> Head:
        """A freshly initialised head on states of width `d_model`; its weights are a function of torch's random state.

        At level token it is a `TokenHead`.
        """

    def activation_values(self, d_model: int, outputs: Outputs) -> int:
        """Estimate of how many values a training step keeps for each unit that the head looks at."""
        return 2 * d_model

    def fit(self, level: Level) -> Iterator[Problem]:
        """Why this head cannot answer at `level`, and which options would do nothing there; paths are a job spec's."""
        if level not in self.levels:
            own = " or ".join(ANSWERS[own] for own in ANSWERS if own in self.levels)
            yield Problem(("head", "kind"), f"must give {ANSWERS[level]}, not {own}", self.kind)
