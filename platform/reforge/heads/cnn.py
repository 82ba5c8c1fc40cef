"""Convolutions over a text and the highest value of each (Kim 2014, https://arxiv.org/abs/1408.5882).

states [B, S, D] --convolutions of several widths, ReLU--> F each --max over the text--> all F's --dropout, out--> K
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reforge.heads.head import Head, HeadOptions, Level, Outputs
from reforge.heads.layers import Scorer, real_states
from reforge.spec import Problem


class CNNOptions(HeadOptions):
    """Kim's CNN over the states of a text's tokens.

    num_filters: of each kernel size
    kernel_sizes: how many tokens a convolution sees at once, one convolution each
    dropout: of the highest values, before the last layer
    """

    kind: Literal["cnn"] = "cnn"
    num_filters: int = Field(100, ge=1)
    kernel_sizes: tuple[int, ...] = (3, 4, 5)
    levels: ClassVar[frozenset[Level]] = frozenset({"text"})
    supports_class_weights: ClassVar[bool] = True

    def problems(self) -> Iterator[Problem]:
        """At least one kernel, each of at least one token, none twice."""
        if not self.kernel_sizes:
            yield Problem(("kernel_sizes",), "must name at least one size", [])
        for place, size in enumerate(self.kernel_sizes):
            if size < 1:
                yield Problem(("kernel_sizes", place), "must be an integer >= 1", size)
            elif size in self.kernel_sizes[:place]:
                yield Problem(("kernel_sizes", place), "must stand there only once", size)

    def build(self, d_model: int, outputs: Outputs) -> Head:
        """A classifier of texts."""
        assert outputs.level in self.levels, outputs
        return CNNHead(self, d_model, outputs.size)

    def activation_values(self, d_model: int, outputs: Outputs) -> int:
        """The states with zeros at padding in two layouts, and the filters' values before and after ReLU."""
        return 2 * d_model + 2 * self.num_filters * len(self.kernel_sizes)


class CNNHead(Head):
    """Parallel convolutions, max over time."""

    def __init__(self, options: CNNOptions, d_model: int, num_classes: int) -> None:
        super().__init__()
        # Zeros on both sides: a convolution is centred on each token, also in a text shorter than its kernel.
        self.convolutions = nn.ModuleList(
            nn.Conv1d(d_model, options.num_filters, size, padding=size // 2) for size in options.kernel_sizes
        )
        self.dropout = nn.Dropout(options.dropout)
        self.out = Scorer(options.num_filters * len(options.kernel_sizes), num_classes)

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Scores [B, K] of whole texts."""
        states_BDS = real_states(states_BSD, real_BS).transpose(1, 2)
        highest = [highest_values(convolution(states_BDS), real_BS) for convolution in self.convolutions]
        scores_BK: Tensor = self.out(self.dropout(torch.cat(highest, dim=1)))
        return scores_BK


def highest_values(values_BFT: Tensor, real_BS: Tensor) -> Tensor:
    """ReLU of each filter's highest value [B, F] at a real token; 0 in an empty row.

    An even kernel gives one place more than there are tokens (T = S + 1): the last, beyond the text, is left out.
    """
    values_BFS = values_BFT[..., : real_BS.shape[1]]
    # After ReLU 0 is the lowest value there is, so padding never wins.
    return F.relu(values_BFS).masked_fill(~real_BS[:, None], 0.0).amax(-1)
