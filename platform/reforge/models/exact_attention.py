"""Exact shared-query-key attention through torch's fused kernel: the attention that LSH attention approximates.

    scores_ij = q_i . k_j / sqrt(d),  k = q / |q|,  scores_ii = -5e4,  softmax over j   (Kitaev et al. 2020, section 2)

A token sees itself only where it sees nothing else. reformer-pytorch's `FullQKAttention` is the readable reference; it
keeps the [T, T] scores for the backward pass and ignores rotary positions, so that a model with the library's default
positions and exact attention does not see word order.

Shapes: B batch, T tokens, S keys, H heads, D width of a head.
"""

import torch
import torch.nn.functional as F
from reformer_pytorch.reformer_pytorch import TOKEN_SELF_ATTN_VALUE
from torch import Tensor


def exact_bias(num_tokens: int, causal: bool, mask_BT: Tensor | None, like: Tensor, num_memories: int = 0) -> Tensor:
    """What is added to the scores, [1 or B, 1, T, S]: -5e4 on the diagonal, the lowest number at what is hidden.

    S is T and the memories after it, which every token sees. The type is that of `like`.
    """
    lowest = torch.finfo(like.dtype).min
    bias = torch.diag(like.new_full((num_tokens,), TOKEN_SELF_ATTN_VALUE))[None, None]
    if causal:
        later = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=like.device).triu(1)
        bias = bias.masked_fill(later, lowest)
    if mask_BT is not None:
        # A padded key hides from all but itself: a row without any key would have no softmax.
        others = ~torch.eye(num_tokens, dtype=torch.bool, device=like.device)
        bias = bias.masked_fill(~mask_BT[:, None, None, :] & others, lowest)
    return F.pad(bias, (0, num_memories)) if num_memories else bias


def exact_attention(qk_BTHD: Tensor, v_BSHD: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """Attention [B, T, H, D] of shared queries and keys over `v_BSHD`; `bias` is what `exact_bias` gives.

    Where S is more than T, the last S - T of `qk` are keys only.
    """
    num_queries = bias.shape[-2]
    q = qk_BTHD.transpose(1, 2)
    k = F.normalize(q, dim=-1).type_as(q)
    # One bias serves float32 and, where autocast made the queries narrower, bfloat16.
    out = F.scaled_dot_product_attention(
        q[:, :, :num_queries], k, v_BSHD.transpose(1, 2), attn_mask=bias.to(q.dtype), dropout_p=dropout
    )
    return out.transpose(1, 2)


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
