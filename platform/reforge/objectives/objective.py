"""What every objective is: a module around a backbone that turns a batch of blocks into summed scores.

    Batch --collate (host, deterministic)--> Inputs --forward (device)--> Scores --metrics--> named floats

The loop knows nothing else of an objective, so one loop serves all of them.
Shapes: B batch, T tokens, N targets.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from reforge.batches import Batch
from reforge.models import Backbone
from reforge.spec import Part


class Inputs(NamedTuple):
    """What one micro-step needs: tensors by name, and over how many targets its loss is summed."""

    tensors: dict[str, Tensor]
    num_targets: int

    def to(self, device: torch.device) -> "Inputs":
        """The same inputs on `device`."""
        if device.type == "cpu":
            return self
        moved = {name: t.pin_memory().to(device, non_blocking=True) for name, t in self.tensors.items()}
        return Inputs(moved, self.num_targets)


class Scores(NamedTuple):
    """Sums over targets, so that micro-batches and ranks add up exactly; all are scalars, float32."""

    loss_sum: Tensor
    num_targets: Tensor
    num_correct: Tensor


class Totals(NamedTuple):
    """Scores added up over a whole set and all ranks."""

    loss_sum: float
    num_targets: float
    num_correct: float


@dataclass(frozen=True)
class FillMask:
    """One masked sentence, the word that was there, and the model's guesses with their probabilities, best first."""

    text: str
    answer: str
    guesses: tuple[tuple[str, float], ...]


class Objective(nn.Module, ABC):
    """A trainable module: `forward(**inputs.tensors)` gives `Scores`."""

    backbone: Backbone
    metric_names: tuple[str, ...]

    @abstractmethod
    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Inputs of a batch; a function of (seed, epoch, sample) alone, whatever the batch's other samples."""

    @abstractmethod
    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """Named figures of a set from its summed scores; `tokens_per_byte` is that of the set's text."""

    @abstractmethod
    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[FillMask]:
        """One readable sample of what the model does for each of the blocks that has a fit place."""


class ObjectiveOptions(Part, ABC):
    """The `objective:` section of a job spec."""

    kind: str

    @property
    @abstractmethod
    def target_share(self) -> float:
        """Share of a block's tokens whose logits are computed at once; for the memory estimate."""

    @abstractmethod
    def build(self, backbone: Backbone, vocab_size: int) -> Objective:
        """The objective's module around `backbone`, its own parameters freshly initialised."""
