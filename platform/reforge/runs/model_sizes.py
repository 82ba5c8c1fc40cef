"""The exact numbers of a model's parameters by where their gradients arise, counted on torch's meta device.

Nothing is allocated and nothing initialised; what was counted once is remembered, as a search asks again and again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from reforge.heads import HeadOptions, Outputs
from reforge.loop.sharding import separate_layers
from reforge.models import Backbone, BackboneOptions, Frame, parameter_depths
from reforge.models.freezing import freeze
from reforge.objectives import ObjectiveOptions
from reforge.objectives.output import OutputLayer
from reforge.tokenizers import Vocabulary

# What modules do to fresh parameters. torch's ways to do nothing of it on the meta device take most of the time.
INITIALISERS = {
    nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, nn.init.ones_, nn.init.zeros_,
    torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.zero_, torch.Tensor.fill_,
}  # fmt: skip


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
    apart: of each layer that is whole only while it runs, where the model is sharded by layer (loop/sharding.py)
    """

    num_parameters: int
    num_trained: int
    largest: int
    num_cast: int
    above: int
    backbones: tuple[BackboneSizes, ...]
    first_only: bool = False
    apart: tuple[int, ...] = ()


@lru_cache(maxsize=512)
def pretrain_sizes(
    model: BackboneOptions, objective: ObjectiveOptions, vocab_size: int, block_tokens: int
) -> ModelSizes:
    """Of an objective's module around its backbones."""
    with nothing_allocated():
        module = objective.build(model, Vocabulary.plain(vocab_size), block_tokens)
    # The first backbone is the one that is fine-tuned, run last where there are two.
    return count(module, [part for part in module.children() if isinstance(part, Backbone)])


@lru_cache(maxsize=512)
def finetune_sizes(
    model: BackboneOptions, frame: Frame, head: HeadOptions, outputs: Outputs, trainable_layers: Literal["all"] | int
) -> ModelSizes:
    """Of a backbone, its lower layers frozen, with a head."""
    with nothing_allocated():
        backbone = model.build(frame)
        top = head.build(backbone.d_model, outputs)
    freeze(backbone, trainable_layers)
    return count(nn.ModuleList([backbone, top]), [backbone], top.first_only)


class _Uninitialised(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in INITIALISERS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextmanager
def nothing_allocated() -> Iterator[None]:
    """Modules that are made here have shapes and no values."""
    with torch.device("meta"), _Uninitialised():
        yield


def count(module: nn.Module, backbones: Sequence[Backbone], first_only: bool = False) -> ModelSizes:
    """The sizes of `module`, whose `backbones` are in the order of their backward passes."""
    parameters = list(module.parameters())
    trained = [p for p in parameters if p.requires_grad]
    inside = {p for backbone in backbones for p in backbone.parameters()}
    seen = {p for p in trained if p not in inside} | set(tied(module))
    above = sum(p.numel() for p in seen)
    by_depth = [parameters_by_depth(backbone) for backbone in backbones]
    tables = {p for depths in by_depth for p in depths[0]}
    return ModelSizes(
        num_parameters=sum(p.numel() for p in parameters),
        num_trained=sum(p.numel() for p in trained),
        largest=max((p.numel() for p in trained), default=0),
        num_cast=sum(p.numel() for p in parameters if p.ndim > 1 and p not in tables),
        above=above,
        backbones=tuple(backbone_sizes(depths, seen) for depths in by_depth),
        first_only=first_only,
        apart=tuple(sum(p.numel() for p in layer_parameters(layer)) for layer in separate_layers(module)),
    )


def layer_parameters(modules: Sequence[nn.Module]) -> Iterator[nn.Parameter]:
    """The parameters of a layer that several modules make up."""
    return (parameter for module in modules for parameter in module.parameters())


def tied(module: nn.Module) -> Iterator[nn.Parameter]:
    """Embeddings that are output matrices too."""
    for part in module.modules():
        if isinstance(part, OutputLayer) and part.tied_weight is not None:
            weight = part.tied_weight()
            assert isinstance(weight, nn.Parameter)
            yield weight


def backbone_sizes(depths: Sequence[Sequence[nn.Parameter]], seen: set[nn.Parameter]) -> BackboneSizes:
    """Of a backbone's parameters by depth; those in `seen` have a gradient by then, and its own join them."""
    trained = [[p for p in parameters if p.requires_grad] for parameters in depths]
    by_depth = tuple(sum(p.numel() for p in parameters if p not in seen) for parameters in trained)
    again = sum(p.numel() for parameters in trained for p in parameters if p in seen)
    seen.update(p for parameters in depths for p in parameters)
    return BackboneSizes(by_depth, again)


def parameters_by_depth(backbone: Backbone) -> list[list[nn.Parameter]]:
    """A backbone's parameters: below the layers, in each of them, above them."""
    depths = parameter_depths(backbone)
    found = defaultdict[int, list[nn.Parameter]](list)
    for name, parameter in backbone.named_parameters():
        found[depths[name]].append(parameter)
    return [found[depth] for depth in range(len(backbone.layer_modules()) + 2)]
