"""The linear layers of the heads, and the precision of the scores."""

import torch
from torch import Tensor, nn

# BERT's initializer_range (Devlin et al. 2018, https://arxiv.org/abs/1810.04805).
INIT_STD = 0.02


def initialise(linear: nn.Linear) -> None:
    """Weights from N(0, INIT_STD^2), biases of 0."""
    nn.init.normal_(linear.weight, std=INIT_STD)
    nn.init.zeros_(linear.bias)


def dense(width: int, out_width: int) -> nn.Linear:
    """A linear layer, initialised as BERT's."""
    linear = nn.Linear(width, out_width)
    initialise(linear)
    return linear


class Scorer(nn.Linear):
    """The last layer of a head. Autocast leaves it in its own precision: scores rounded to bfloat16 would tie."""

    def __init__(self, width: int, num_scores: int) -> None:
        super().__init__(width, num_scores)
        initialise(self)

    def forward(self, input: Tensor) -> Tensor:
        """Scores [..., K] of [..., width]."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def real_states(states_BSD: Tensor, real_BS: Tensor) -> Tensor:
    """The states with 0 where nothing is real."""
    return states_BSD.masked_fill(~real_BS[..., None], 0.0)
