"""What every backbone is: a module from token ids to hidden states, and the options that build it.

Shapes: B batch, T tokens, D d_model, E width of the embeddings, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from reforge.models.sizes import SIZES, Size
from reforge.spec import Part, Problem


@dataclass(frozen=True)
class Frame:
    """What a backbone is built for: which ids come in, how many at once, and who may see whom.

    causal: a token sees only itself and what is before it
    num_segments: how many kinds of segment the input tells apart; 0 where it has no segment ids
    """

    vocab_size: int
    block_tokens: int
    causal: bool = False
    num_segments: int = 0


class Device(NamedTuple):
    """Where a backbone is to run: the kind of device, the bytes of it that one worker has, and of one activation."""

    kind: str
    memory_bytes: int
    bytes_per_value: int


class MicroStep(NamedTuple):
    """What goes through a backbone at once: so many tokens, activations of so many bytes, on such a device.

    num_places: at how many of the tokens hidden states are asked for; None: at all
    num_trained: how many of the layers are trained, the upper ones; None: all
    """

    num_tokens: int
    frame: Frame
    bytes_per_value: int
    device_kind: str = "cpu"
    num_places: int | None = None
    num_trained: int | None = None


class Activations(NamedTuple):
    """Bytes that a micro-step keeps for its backward pass, and those that come on top while it runs.

    outside: kept below and above the layers
    layer, last: kept by a layer, and by the last one, which may be computed at some places only
    working, last_working: on top while the backward pass of such a layer runs, what is computed again included
    passing: on top while a layer is run of which nothing is kept
    """

    outside: int
    layer: int
    last: int
    working: int
    last_working: int
    passing: int


class Cache(ABC):
    """What incremental decoding keeps of the tokens so far."""

    num_tokens: int

    @abstractmethod
    def select(self, rows_B: Tensor) -> None:
        """Keep the given rows of the batch, in the given order."""


class Backbone(nn.Module, ABC):
    """A module that turns token ids into hidden states of width `d_model`."""

    frame: Frame
    d_model: int
    # Whether a backward pass gives every parameter its gradient exactly once, as DistributedDataParallel counts on.
    regular_gradients: bool = True

    @property
    @abstractmethod
    def token_weight(self) -> Tensor:
        """The token embeddings [V, E]."""

    @property
    @abstractmethod
    def segment_weight(self) -> Tensor | None:
        """The segment embeddings, a row for each of the frame's segments; None where it has none."""

    @property
    @abstractmethod
    def top(self) -> nn.Module:
        """What is above the layers: the final norm."""

    @abstractmethod
    def layer_modules(self) -> list[nn.Module]:
        """The layers, bottom first, each with all of its parameters; what is in no layer nor `top` is below them."""

    def separate_layers(self) -> list[list[nn.Module]]:
        """The layers, bottom first, each as modules that every pass calls once, in this order; [] where it does not.

        No two share a parameter, so each can have its weights gathered for its own run alone (loop/sharding.py).
        """
        return []

    @abstractmethod
    def share_embeddings(self, other: Self) -> None:
        """Use the token, position and segment embeddings of `other` (equal E and frame) as one's own."""

    @abstractmethod
    def forward(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: Cache | None = None,
        places_N: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] of ids [B, T]; `mask_BT` is True at real tokens, None where every token is real.

        T may be anything from 1 to `frame.block_tokens`, beyond that a ValueError says so; what is masked changes no
        real token's hidden state. `segments_BT` is needed where the frame has segments. With a `cache` the ids go on
        after the tokens it holds, and it takes them up. With `places_N`, places in the flattened batch, only
        their hidden states come back, [N, D], and the last layer computes no others.
        """

    def new_cache(self) -> Cache | None:
        """An empty cache for incremental decoding, None where this backbone has no such way."""
        return None

    @torch.no_grad()
    def reset_segments(self) -> None:
        """Let all segments start as one: hidden states are those of the same weights without segments."""
        if self.segment_weight is not None:
            self.segment_weight.zero_()

    def dense_parts(self) -> list[nn.Module]:
        """Modules without random state or data-dependent shapes, for torch.compile."""
        return []

    def check_length(self, num_tokens: int) -> None:
        """Raise ValueError where there are more tokens than positions, or none."""
        if not 1 <= num_tokens <= self.frame.block_tokens:
            limit = f"1 to {self.frame.block_tokens} tokens (the run's data.block_tokens)"
            raise ValueError(f"this model takes {limit} at a time, got {num_tokens}")


class BackboneOptions(Part, ABC):
    """The `model:` section of a job spec.

    size: a name for depth, d_model and num_heads; each of them, written beside it, wins
    emb_dim: width of the token and position embeddings where it is not d_model
    """

    kind: str
    size: Size | None = None
    d_model: int = Field(512, ge=1)
    depth: int = Field(6, ge=1)
    num_heads: int = Field(8, ge=1)
    emb_dim: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fill_size(self) -> Self:
        if self.size is not None:
            named = SIZES[self.size]._asdict()
            # Frozen against everyone else; a copy in its place would not be what a constructor gives.
            self.__dict__.update({key: value for key, value in named.items() if key not in self.model_fields_set})
        return self

    @abstractmethod
    def build(self, frame: Frame) -> Backbone:
        """A freshly initialised backbone; the weights are a function of torch's random state."""

    @abstractmethod
    def fit(self, frame: Frame) -> Iterator[Problem]:
        """Why this backbone cannot be built for `frame`; paths are those of a job spec."""

    @abstractmethod
    def resolve(self, frame: Frame, num_tokens: int, device: Device) -> tuple[Self, list[str]]:
        """These options with every `auto` decided for micro-batches of `num_tokens`, and lines that say why."""

    @abstractmethod
    def activations(self, step: MicroStep) -> Activations:
        """Estimate of the memory that one training micro-step takes; `auto` memory counts as keep."""

    def activation_bytes(self, num_tokens: int, frame: Frame, bytes_per_value: int) -> int:
        """Estimate of the bytes that one training micro-step of `num_tokens` tokens takes beside the weights."""
        parts = self.activations(MicroStep(num_tokens, frame, bytes_per_value))
        return parts.outside + (self.depth - 1) * parts.layer + parts.last + max(parts.working, parts.last_working)

    @abstractmethod
    def with_dropout(self, p: float) -> Self:
        """The same backbone with dropout `p` on all activations; 0 <= p < 1.

        Dropout on attention weights stays as it is: it is an option of its own, which costs the fused kernels that
        keep no weights.
        """

    def without_top(self, num_layers: int) -> Self:
        """The same backbone without its upper `num_layers` layers; what is left keeps its tensors' names."""
        assert 0 <= num_layers < self.depth, f"{num_layers} of {self.depth} layers"
        return self.model_copy(update={"depth": self.depth - num_layers})

    def scaled(self, ratio: float) -> Self:
        """The same backbone at `ratio` of its width and heads, on embeddings of the full width (ELECTRA's generator).

        The width of a head stays; at least one head is left.
        """
        num_heads = max(1, round(self.num_heads * ratio))
        d_model = self.d_model // self.num_heads * num_heads
        return self.model_copy(
            update={"num_heads": num_heads, "d_model": d_model, "emb_dim": self.emb_dim or self.d_model}
        )


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters, shared ones counted once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def new_embedding(num_rows: int, width: int, std: float) -> nn.Embedding:
    """An embedding drawn from N(0, std^2); torch's own N(0, 1) would drown what the first layers add."""
    embedding = nn.Embedding(num_rows, width)
    with torch.no_grad():
        embedding.weight.normal_(std=std)
    return embedding
