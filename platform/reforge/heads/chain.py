"""Sums and maxima over all sequences of tags, in time linear in the length: a linear-chain CRF's arithmetic.

The score of a path y is start[y_1] + sum_s emission[s, y_s] + sum_s transition[y_s, y_s+1] + end[y_S], over the real
units of a row (Lafferty et al. 2001; Collobert et al. 2011, https://arxiv.org/abs/1103.0398, section 3.3.2).

Shapes: B batch, S units, K tags. Real units stand on the left; an empty row has the one path of score 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Near float64's smallest number; 690 nats below 1.
LEAST = 1.0e-300


class Chain(NamedTuple):
    """The scores of a chain: of a first tag, of one tag (column) right after another (row), of a last tag."""

    start_K: Tensor
    transitions_KK: Tensor
    end_K: Tensor

    def to(self, like: Tensor | torch.dtype) -> "Chain":
        """The same scores of another type, or of the type and on the device of a tensor."""
        return Chain(*(scores.to(like) for scores in self))


def path_scores(chain: Chain, emissions_BSK: Tensor, tags_BS: Tensor, real_BS: Tensor) -> Tensor:
    """The score [B] of the given tags."""
    units_BS = emissions_BSK.gather(2, tags_BS[..., None]).squeeze(2)
    moves_BR = chain.transitions_KK[tags_BS[:, :-1], tags_BS[:, 1:]]
    last_B1 = (real_BS.sum(1, keepdim=True) - 1).clamp(min=0)
    ends_B = chain.start_K[tags_BS[:, 0]] + chain.end_K[tags_BS.gather(1, last_B1).squeeze(1)]
    return (units_BS * real_BS).sum(1) + (moves_BR * real_BS[:, 1:]).sum(1) + ends_B * real_BS[:, 0]


def log_partition(chain: Chain, emissions_BSK: Tensor, real_BS: Tensor) -> Tensor:
    """The log [B] of the sum of exp(score) over all paths: the forward algorithm, of float64 values.

    A step is a product of [B, K] and [K, K] matrices rather than a log-sum-exp over [B, K, K] values. In float64 that
    is exact as long as no sum over all ways to a tag is less than LEAST of the sum over all ways to the best one.
    """
    assert emissions_BSK.dtype == torch.float64, emissions_BSK.dtype
    weights_KK = chain.transitions_KK.exp()
    # Unbound once: the gradient of a single slice would be as large as the whole.
    first_BK, *later = emissions_BSK.unbind(1)
    so_far_BK = chain.start_K + first_BK
    for emissions_BK, real_B1 in zip(later, real_BS[:, 1:, None].unbind(1), strict=True):
        top_B1 = so_far_BK.detach().amax(-1, keepdim=True)
        ways_BK = (so_far_BK - top_B1).exp() @ weights_KK
        next_BK = ways_BK.clamp(min=LEAST).log() + top_B1 + emissions_BK
        so_far_BK = torch.where(real_B1, next_BK, so_far_BK)
    return (so_far_BK + chain.end_K).logsumexp(-1).masked_fill(~real_BS[:, 0], 0.0)


@torch.no_grad()
def best_paths(chain: Chain, emissions_BSK: Tensor, real_BS: Tensor) -> Tensor:
    """The tags [B, S] of the path with the highest score (Viterbi 1967); 0 where nothing is real."""
    into_KK = chain.transitions_KK.T.contiguous()
    stay_K = torch.arange(len(into_KK), device=into_KK.device)
    best_BK = chain.start_K + emissions_BSK[:, 0]
    before: list[Tensor] = []
    for emissions_BK, real_B1 in zip(emissions_BSK.unbind(1)[1:], real_BS[:, 1:, None].unbind(1), strict=True):
        highest_BK, from_BK = (best_BK[:, None] + into_KK).max(-1)
        best_BK = torch.where(real_B1, highest_BK + emissions_BK, best_BK)
        before.append(torch.where(real_B1, from_BK, stay_K))
    return trace_back((best_BK + chain.end_K).argmax(-1), before).masked_fill(~real_BS, 0)


def trace_back(last_B: Tensor, before: list[Tensor]) -> Tensor:
    """The tags [B, S] that end in `last_B`, where `before[s][b, k]` is the best tag of unit s before tag k of s + 1."""
    tags_B1 = [last_B[:, None]]
    for from_BK in reversed(before):
        tags_B1.append(from_BK.gather(1, tags_B1[-1]))
    return torch.cat(tags_B1[::-1], dim=1)
