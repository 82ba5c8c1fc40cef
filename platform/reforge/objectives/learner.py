"""What the training loop trains: a module that turns a batch into summed losses.

    Batch --collate (host, deterministic)--> Inputs --forward (device)--> Scores

The loss is a weighted sum of terms (MLM has one, MLM with next-sentence prediction two), each a mean over its own
targets. Scores hold sums, so that micro-batches and ranks add up exactly. The loop knows nothing else of what it
trains, so one loop serves all objectives and all fine-tuning tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reforge.batches import Batch
from reforge.models import Backbone


class Inputs(NamedTuple):
    """What one micro-step needs: tensors by name, and over how many targets each term of its loss is summed.

    Targets that are weighted count by their weights.
    """

    tensors: dict[str, Tensor]
    num_targets: Mapping[str, float]

    def to(self, device: torch.device) -> "Inputs":
        """The same inputs on `device`."""
        if device.type == "cpu":
            return self
        moved = {name: t.pin_memory().to(device, non_blocking=True) for name, t in self.tensors.items()}
        return Inputs(moved, self.num_targets)


class Scores(NamedTuple):
    """Sums over targets; all are float32 scalars.

    losses: by term, in nats, differentiable
    counts: what else `metrics` needs, by name; empty while training, so that no time is spent on it
    """

    losses: dict[str, Tensor]
    counts: dict[str, Tensor]


class Learner(nn.Module, ABC):
    """A trainable module: `forward(**inputs.tensors)` gives `Scores`.

    terms: weight of each term's mean in the loss
    needs_partners: whether `collate` wants a row of another document beside every row (`Batch.partners`)
    """

    backbone: Backbone
    terms: Mapping[str, float]
    needs_partners: bool = False

    @abstractmethod
    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Inputs of a batch; a function of (seed, epoch, sample) alone, whatever the batch's other samples."""
