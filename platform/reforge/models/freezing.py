"""Training only the upper part of a backbone: what lies below takes part in the forward pass alone.

Frozen parameters want no gradient and, as they are the lowest ones, neither does anything before the first trainable
layer: autograd keeps nothing there and its backward pass ends there. Layers that have a backward pass of their own
(reversible.py) are told apart by the same flags.

In training mode the dropout of frozen layers stays active, as wherever `model.train()` is all that a fine-tuning calls:
what the trainable layers see is then as noisy as in full fine-tuning.
"""

from typing import Literal

from torch import nn

from reforge.models.backbone import Backbone
from reforge.models.depth import parameter_depths


def freeze(backbone: Backbone, trainable_layers: Literal["all"] | int) -> None:
    """Let the last `trainable_layers` layers and what is above them be trained, nothing at 0, everything with "all".

    A number of layers leaves the embeddings frozen, also the number of all. To be called before the optimizer and
    DistributedDataParallel are made. Tied weights lie in the lowest layer that has them (depth.py).
    """
    num_layers = len(backbone.layer_modules())
    if trainable_layers == "all":
        lowest = 0
    else:
        assert 0 <= trainable_layers <= num_layers, f"{trainable_layers} of {num_layers} layers"
        lowest = num_layers + (1 - trainable_layers if trainable_layers else 2)
    depths = parameter_depths(backbone)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(depths[name] >= lowest)


def is_frozen(module: nn.Module) -> bool:
    """Whether none of its parameters is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())
