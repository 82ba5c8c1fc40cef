"""LSH attention as one call of torch's flex_attention over the sorted sequence of all rounds; for CUDA, by choice only.

Each chunk sees itself and one other, which a block mask says; torch compiles that into a fused kernel with its own
backward pass. The rounds merge by their log-sum-exp outside of it, so that a value a round, not a score, is kept. The
kernel has not been run on a GPU by the authors: "auto" does not choose it. On a CPU flex_attention has no backward pass
and no kernel; there it only serves to test this file.

Shapes: those of `lsh_layout.py`; X = R x S places of all rounds, C chunks of all rounds.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from reformer_pytorch.reformer_pytorch import TOKEN_SELF_ATTN_VALUE
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from reforge.models.lsh_layout import Layout


def attend(qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout) -> Tensor:
    """Attention [B, T, H, D]."""
    N, R, S = layout.order_NRS.shape
    D = qk_BTHD.shape[-1]
    position_NX = layout.order_NRS.flatten(1).long()
    q_NSD = layout.flatten(layout.rotate(qk_BTHD)).view(N, S, D)
    k_NSD = F.normalize(q_NSD, dim=-1).type_as(q_NSD)
    v_NSD = layout.flatten(v_BTHD).view(N, S, D)
    q, k, v = (x.take_along_dim(position_NX[..., None], dim=1)[:, None] for x in (q_NSD, k_NSD, v_NSD))

    def hide_own(score: Tensor, n: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.where(position_NX[n, query] == position_NX[n, key], TOKEN_SELF_ATTN_VALUE, score)

    block_mask = visits(layout, position_NX, qk_BTHD.shape[1])
    attention: Any = compiled() if qk_BTHD.is_cuda else flex_attention
    # Blocks of the mask are chunks: the kernel must not work on larger ones.
    options = {"BLOCK_M": layout.bucket_size, "BLOCK_N": layout.bucket_size} if qk_BTHD.is_cuda else None
    out, aux = attention(q, k, v, hide_own, block_mask, kernel_options=options, return_aux=AuxRequest(lse=True))
    place_NRS = torch.arange(R * S, device=position_NX.device).view(1, R, S).expand(N, R, S)
    inverse_NX = torch.empty_like(place_NRS).scatter_(2, layout.order_NRS.long(), place_NRS).flatten(1)
    out_NRSD = out[:, 0].take_along_dim(inverse_NX[..., None], dim=1).view(N, R, S, D)
    lse_NRS = aux.lse[:, 0].take_along_dim(inverse_NX, dim=1).view(N, R, S)
    merged_NSD = (out_NRSD * lse_NRS.softmax(dim=1)[..., None]).sum(dim=1)
    return layout.unflatten(merged_NSD.reshape(N * S, D), qk_BTHD)


def visits(layout: Layout, position_NX: Tensor, num_tokens: int) -> BlockMask:
    """Which chunks see which, and within them which places; chunks of padding alone see only themselves."""
    N, R, S = layout.order_NRS.shape
    P, device = layout.bucket_size, position_NX.device
    per_round = S // P
    last_N1 = layout.num_chunks_N[:, None] - 1
    round_C = torch.arange(R * per_round, device=device) // per_round
    chunk_C = torch.arange(R * per_round, device=device) % per_round
    before_NC = torch.where(chunk_C > 0, chunk_C - 1 + round_C * per_round, (round_C - 1) % R * per_round + last_N1)
    after_NC = torch.where(chunk_C < last_N1, chunk_C + 1 + round_C * per_round, (round_C + 1) % R * per_round)
    number_NC = torch.where(chunk_C <= last_N1, 2, 1).int()
    own_NC = torch.arange(R * per_round, device=device).expand(N, -1)
    if layout.lengths_B is None:
        length_N = torch.full((N,), num_tokens, device=device)
    else:
        length_N = layout.lengths_B.repeat_interleave(N // len(layout.lengths_B))
    real_NX = torch.arange(R * S, device=device) % S < length_N[:, None]

    def sees(n: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        at, other = position_NX[n, query], position_NX[n, key]
        near = (key // P == query // P) | (key // P == before_NC[n, query // P]) & real_NX[n, query]
        allowed = real_NX[n, key] & (at > other if layout.causal else at != other)
        return near & (allowed | (at == other))

    return BlockMask(
        (R * S, R * S),
        number_NC[:, None],
        torch.stack((own_NC, before_NC), dim=-1).int()[:, None],
        None,
        None,
        number_NC[:, None],
        torch.stack((own_NC, after_NC), dim=-1).int()[:, None],
        None,
        None,
        (P, P),
        sees,
    )


@functools.cache
def compiled() -> Callable[..., Any]:
    """flex_attention with its kernel, compiled anew for each length."""
    return torch.compile(flex_attention, dynamic=False)
