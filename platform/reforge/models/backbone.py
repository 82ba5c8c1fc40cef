"""What every backbone is: a module from token ids to hidden states, and the options that build it.

Shapes: B batch, T tokens, D d_model.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor, nn

from reforge.spec import Part, Problem


class Backbone(nn.Module, ABC):
    """A module that turns token ids into hidden states of width `d_model`."""

    d_model: int
    block_tokens: int

    @abstractmethod
    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, D] of ids [B, T]; `mask_BT` is True at real tokens, None where every token is real.

        T may be anything from 1 to `block_tokens`.
        """


class BackboneOptions(Part, ABC):
    """The `model:` section of a job spec."""

    kind: str

    @abstractmethod
    def build(self, vocab_size: int, block_tokens: int) -> Backbone:
        """A freshly initialised backbone; the weights are a function of torch's random state."""

    @abstractmethod
    def fit(self, block_tokens: int) -> Iterator[Problem]:
        """Why a block of `block_tokens` tokens cannot go through this backbone; paths are those of a job spec."""

    @abstractmethod
    def activation_bytes(self, num_tokens: int, block_tokens: int, bytes_per_value: int) -> int:
        """Estimate of the bytes that one training micro-step of `num_tokens` tokens keeps for its backward pass."""


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters, shared ones counted once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
