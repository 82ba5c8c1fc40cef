"""Exact shared-query-key attention through torch's fused kernel: the attention that LSH attention approximates.

    scores_ij = q_i . k_j / sqrt(d),  k = q / |q|,  scores_ii = -5e4,  softmax over j   (Kitaev et al. 2020, section 2)

A token sees itself only where it sees nothing else. reformer-pytorch's `FullQKAttention` is the readable reference; it
keeps the [T, T] scores for the backward pass and ignores rotary positions, so that a model with the library's default
positions and exact attention does not see word order.

Shapes: N batch x heads, T tokens, D width of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from reformer_pytorch.reformer_pytorch import TOKEN_SELF_ATTN_VALUE, FullQKAttention, apply_rotary_pos_emb
from torch import Tensor, nn


class ExactSharedQKAttention(nn.Module):
    """Takes the place of reformer-pytorch's `FullQKAttention`: the same arguments and results; no parameters."""

    def __init__(self, reference: FullQKAttention) -> None:
        super().__init__()
        self.causal: bool = reference.causal
        self.dropout: float = reference.dropout.p

    def forward(
        self,
        qk: Tensor,
        v: Tensor,
        query_len: int | None = None,
        input_mask: Tensor | None = None,
        pos_emb: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attention of `qk` [N, T, D] over `v` [N, T, D]; `input_mask` [N, T] is True at real tokens.

        The second and third result, the scores and the buckets, are empty: the fused kernel never makes them.
        """
        if pos_emb is not None:
            qk = apply_rotary_pos_emb(qk, pos_emb)
        num_tokens = qk.shape[1]
        keys = F.normalize(qk, dim=-1).type_as(qk)
        bias = self._bias(num_tokens, qk, input_mask)
        dropout = self.dropout if self.training else 0.0
        # The CPU's fused kernel takes four dimensions: the merged batch and heads as batch, one head.
        q, k, v = (x.unsqueeze(1) for x in (qk[:, :query_len], keys, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[..., :query_len, :], dropout_p=dropout)
        nothing = qk.new_empty(0)
        return out.squeeze(1), nothing, nothing

    def _bias(self, num_tokens: int, like: Tensor, input_mask: Tensor | None) -> Tensor:
        """What is added to the scores, [1 or N, 1, T, T]: -5e4 on the diagonal, the lowest number at what is hidden."""
        lowest = torch.finfo(like.dtype).min
        bias = torch.diag(like.new_full((num_tokens,), TOKEN_SELF_ATTN_VALUE))[None, None]
        if self.causal:
            later = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=like.device).triu(1)
            bias = bias.masked_fill(later, lowest)
        if input_mask is not None:
            # A padded key hides from all but itself: a row without any key would have no softmax.
            hidden = ~input_mask[:, None, None, :] & ~torch.eye(num_tokens, dtype=torch.bool, device=like.device)
            bias = bias.masked_fill(hidden, lowest)
        return bias
