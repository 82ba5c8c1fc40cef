"""The exact numbers of a model's parameters by where their gradients arise, counted on torch's meta device.

Nothing is allocated and nothing initialised; what was counted once is remembered, as a search asks again and again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from reforge.heads import HeadOptions, Outputs
from reforge.models import Backbone, BackboneOptions, Frame, parameter_depths
from reforge.models.freezing import freeze
from reforge.objectives import ObjectiveOptions
from reforge.objectives.output import OutputLayer
from reforge.tokenizers import Vocabulary


@dataclass(frozen=True)
class BackboneSizes:
    """Parameters of a backbone whose gradients arise in its backward pass.

    by_depth: trained ones, 0 in the embeddings, then the layers, at the end what is above (models/depth.py)
    again: those of the embeddings that have a gradient from elsewhere already, to which theirs is added
    """

    by_depth: tuple[int, ...]
    again: int


@dataclass(frozen=True)
class ModelSizes:
    """Numbers of parameters.

    largest: of one trained tensor
    num_cast: matrices that autocast keeps in bfloat16 too
    above: trained ones whose gradients arise before the backbones': output layers, the head, tied embeddings
    backbones: in the order of their backward passes
    first_only: whether the head looks at the first state of a row alone
    """

    num_parameters: int
    num_trained: int
    largest: int
    num_cast: int
    above: int
    backbones: tuple[BackboneSizes, ...]
    first_only: bool = False


@lru_cache(maxsize=512)
def pretrain_sizes(
    model: BackboneOptions, objective: ObjectiveOptions, vocab_size: int, block_tokens: int
) -> ModelSizes:
    """Of an objective's module around its backbones."""
    with torch.device("meta"):
        module = objective.build(model, Vocabulary.plain(vocab_size), block_tokens)
    # The first backbone is the one that is fine-tuned, run last where there are two.
    return count(module, [part for part in module.children() if isinstance(part, Backbone)])


@lru_cache(maxsize=512)
def finetune_sizes(
    model: BackboneOptions, frame: Frame, head: HeadOptions, outputs: Outputs, trainable_layers: Literal["all"] | int
) -> ModelSizes:
    """Of a backbone, its lower layers frozen, with a head."""
    with torch.device("meta"):
        backbone = model.build(frame)
        top = head.build(backbone.d_model, outputs)
    freeze(backbone, trainable_layers)
    return count(nn.ModuleList([backbone, top]), [backbone], top.first_only)


def count(module: nn.Module, backbones: Sequence[Backbone], first_only: bool = False) -> ModelSizes:
    """The sizes of `module`, whose `backbones` are in the order of their backward passes."""
    parameters = list(module.parameters())
    trained = [p for p in parameters if p.requires_grad]
    inside = {p for backbone in backbones for p in backbone.parameters()}
    seen = {p for p in trained if p not in inside} | set(tied(module))
    above = sum(p.numel() for p in seen)
    tables = {p for backbone in backbones for p in at_depth(backbone, 0)}
    return ModelSizes(
        num_parameters=sum(p.numel() for p in parameters),
        num_trained=sum(p.numel() for p in trained),
        largest=max((p.numel() for p in trained), default=0),
        num_cast=sum(p.numel() for p in parameters if p.ndim > 1 and p not in tables),
        above=above,
        backbones=tuple(backbone_sizes(backbone, seen) for backbone in backbones),
        first_only=first_only,
    )


def tied(module: nn.Module) -> Iterator[nn.Parameter]:
    """Embeddings that are output matrices too."""
    for part in module.modules():
        if isinstance(part, OutputLayer) and part.tied_weight is not None:
            weight = part.tied_weight()
            assert isinstance(weight, nn.Parameter)
            yield weight


def backbone_sizes(backbone: Backbone, seen: set[nn.Parameter]) -> BackboneSizes:
    """Its sizes; those in `seen` have a gradient by then, and its own join them."""
    by_depth, again = [], 0
    for depth in range(len(backbone.layer_modules()) + 2):
        trained = [p for p in at_depth(backbone, depth) if p.requires_grad]
        by_depth.append(sum(p.numel() for p in trained if p not in seen))
        again += sum(p.numel() for p in trained if p in seen)
    seen.update(backbone.parameters())
    return BackboneSizes(tuple(by_depth), again)


def at_depth(backbone: Backbone, wanted: int) -> list[nn.Parameter]:
    """The parameters that lie so high."""
    depths = parameter_depths(backbone)
    return [p for name, p in backbone.named_parameters() if depths[name] == wanted]
