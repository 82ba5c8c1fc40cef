"""Exact shared-query-key attention through torch's fused kernel: the attention that LSH attention approximates.

    scores_ij = q_i . k_j / sqrt(d),  k = q / |q|,  scores_ii = -5e4,  softmax over j   (Kitaev et al. 2020, section 2)

A token sees itself only where it sees nothing else. reformer-pytorch's `FullQKAttention` is the readable reference; it
keeps the [T, T] scores for the backward pass and ignores rotary positions, so that a model with the library's default
positions and exact attention does not see word order.

In causal attention the keys before a token are all it sees, itself only where it is the first: queries 1.. over keys
..T-1 are plain causal attention, which needs no bias and leaves out what is hidden. With padding, biases are needed.

Shapes: B batch, T tokens, S tokens and memories, K keys, Q queries of a block, H heads, D width of a head.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from reformer_pytorch.reformer_pytorch import TOKEN_SELF_ATTN_VALUE
from torch import Tensor

# Queries of padded causal attention that share their keys: what is hidden from all of them is not computed at all.
CAUSAL_BLOCK = 256
# Up to this length the CPU's fused bf16 kernel is slower than two plain products that keep the weights: 59 to 22 ms at
# 16 x 128 tokens, 103 to 89 at 4 x 512 (8 heads of 64, one thread, forward and backward). In float32 it never is.
PLAIN_BF16_UP_TO = 512
# Up to this length the CPU is faster with blocks of queries than with its own causal kernel.
CPU_BLOCKS_UP_TO = 1024


class QueryBlock(NamedTuple):
    """Queries `start` to `stop`, how many keys they see at most, and what is added to their scores.

    The bias is [1 or B, 1, stop - start, num_keys]: -5e4 on the diagonal, the lowest number at what is hidden.
    """

    start: int
    stop: int
    num_keys: int
    bias: Tensor


def query_blocks(
    num_tokens: int, causal: bool, mask_BT: Tensor | None, like: Tensor, num_memories: int = 0
) -> list[QueryBlock]:
    """The parts in which `exact_attention` goes through `num_tokens` queries; biases are of the type of `like`.

    Keys are the tokens and then the memories, which every token sees. Long causal attention without padding or memories
    needs none.
    """
    prefers_blocks = like.device.type == "cpu" and num_tokens <= CPU_BLOCKS_UP_TO
    if causal and mask_BT is None and not num_memories and not prefers_blocks:
        return []
    cut = causal and not num_memories
    block = CAUSAL_BLOCK if cut else num_tokens
    blocks = []
    for start in range(0, num_tokens, block):
        stop = min(start + block, num_tokens)
        num_keys = stop if cut else num_tokens
        mask_BK = None if mask_BT is None else mask_BT[:, :num_keys]
        bias = _bias(start, stop, num_keys, causal, mask_BK, like)
        blocks.append(QueryBlock(start, stop, num_keys + num_memories, F.pad(bias, (0, num_memories))))
    return blocks


def _bias(start: int, stop: int, num_keys: int, causal: bool, mask_BK: Tensor | None, like: Tensor) -> Tensor:
    lowest = torch.finfo(like.dtype).min
    queries_Q1 = torch.arange(start, stop, device=like.device)[:, None]
    keys_K = torch.arange(num_keys, device=like.device)
    own_QK = queries_Q1 == keys_K
    bias = like.new_zeros(stop - start, num_keys).masked_fill_(own_QK, TOKEN_SELF_ATTN_VALUE)
    if causal:
        bias = bias.masked_fill_(keys_K > queries_Q1, lowest)
    if mask_BK is None:
        return bias[None, None]
    # A padded key hides from all but itself: a row without any key would have no softmax.
    return bias.masked_fill(~mask_BK[:, None, None, :] & ~own_QK, lowest)


def exact_attention(qk_BSHD: Tensor, v_BSHD: Tensor, blocks: Sequence[QueryBlock], dropout: float = 0.0) -> Tensor:
    """Attention [B, T, H, D] of shared queries and keys over `v`; `blocks` is what `query_blocks` gives.

    Where S is more than T, the last S - T of `qk` are keys only. No blocks mean causal attention.
    """
    q, v = qk_BSHD.transpose(1, 2), v_BSHD.transpose(1, 2)
    k = F.normalize(q, dim=-1).type_as(q)
    if not blocks:
        return _causal(q, k, v, dropout)
    outs = [
        _attend(q[:, :, start:stop], k[:, :, :num_keys], v[:, :, :num_keys], bias, dropout)
        for start, stop, num_keys, bias in blocks
    ]
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)


def _causal(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    first_B1HD = v[:, :, :1].transpose(1, 2)
    if q.shape[2] == 1:
        return first_B1HD
    rest = F.scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], dropout_p=dropout, is_causal=True)
    return torch.cat([first_B1HD, rest.transpose(1, 2)], dim=1)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout: float) -> Tensor:
    bias = bias.to(q.dtype)  # one bias serves float32 and, where autocast made the queries narrower, bfloat16
    if is_plain(q.dtype, q.device.type, k.shape[2]):
        with torch.autocast(q.device.type, enabled=False):  # it would widen the weights, which are kept, to float32
            weights = ((q * q.shape[-1] ** -0.5) @ k.mT).add_(bias).softmax(-1)
            return (F.dropout(weights, dropout) @ v).transpose(1, 2)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    return out.transpose(1, 2)


def is_plain(dtype: torch.dtype, device_kind: str, num_keys: int) -> bool:
    """Whether attention with a bias keeps its weights, as two plain products do."""
    return dtype == torch.bfloat16 and device_kind == "cpu" and num_keys <= PLAIN_BF16_UP_TO


def rotate(x_BTHD: Tensor, rotary_1TD: Tensor) -> Tensor:
    """`x` with pairs of values turned by their position's angles, as reformer-pytorch's `apply_rotary_pos_emb` does.

    The first half of `rotary_1TD` are the sines, the second the cosines (Su et al. 2021). What has no position, beyond
    the length of `rotary_1TD`, stays as it is.
    """
    num_tokens = rotary_1TD.shape[1]
    wide = x_BTHD if x_BTHD.dtype == torch.float64 else x_BTHD.float()
    sin_TD, cos_TD = rotary_1TD[0].to(wide.dtype).chunk(2, dim=-1)
    pairs = torch.view_as_complex(torch.unflatten(wide[:, :num_tokens], -1, (-1, 2)).contiguous())
    turned = torch.view_as_real(pairs * torch.complex(cos_TD, sin_TD)[:, None]).flatten(-2)
    if x_BTHD.shape[1] > num_tokens:
        turned = torch.cat([turned, wide[:, num_tokens:]], dim=1)
    return turned.type_as(x_BTHD)
