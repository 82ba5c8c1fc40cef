"""Backbones: token ids in, one hidden vector a token out. A new one is one file here and one line in `BACKBONES`."""

from typing import TYPE_CHECKING

from reforge.models.backbone import (
    Activations,
    Backbone,
    BackboneOptions,
    Cache,
    Device,
    Frame,
    MicroStep,
    count_parameters,
)
from reforge.models.depth import parameter_depths
from reforge.models.freezing import freeze
from reforge.models.reformer import ReformerOptions
from reforge.models.transformer import TransformerOptions
from reforge.spec import one_of

BACKBONES: dict[str, type[BackboneOptions]] = {
    "reformer": ReformerOptions,
    "transformer": TransformerOptions,
}

if TYPE_CHECKING:
    AnyBackbone = BackboneOptions
else:
    AnyBackbone = one_of(BACKBONES)

__all__ = [
    "BACKBONES",
    "Activations",
    "AnyBackbone",
    "Backbone",
    "BackboneOptions",
    "Cache",
    "Device",
    "Frame",
    "MicroStep",
    "count_parameters",
    "freeze",
    "parameter_depths",
]
