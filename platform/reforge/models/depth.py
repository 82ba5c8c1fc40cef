"""How high each parameter of a backbone lies; what is above may be trained alone, what is below learns more slowly."""

from torch import nn

from reforge.models.backbone import Backbone


def parameter_depths(backbone: Backbone) -> dict[str, int]:
    """Depth of every parameter by its name: 0 in the embeddings, i + 1 in layer i, number of layers + 1 above them.

    A parameter that several layers share (the Reformer's weight_tie) lies in the lowest of them.
    """
    depths: dict[nn.Parameter, int] = {}
    for depth, module in enumerate([*backbone.layer_modules(), backbone.top], start=1):
        for parameter in module.parameters():
            depths.setdefault(parameter, depth)
    return {name: depths.get(parameter, 0) for name, parameter in backbone.named_parameters()}
