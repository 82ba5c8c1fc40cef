"""LSH attention by torch's operators, a slice of the sorted sequence at a time: nothing of all rounds is ever kept.

All rounds together are one softmax over the multiset of visited keys. So each slice's attention merges into the
running output by its log-sum-exp, and the backward pass computes each slice's scores again and weighs them with the
*global* log-sum-exp (the identity of ring attention, Liu et al. 2023, https://arxiv.org/abs/2310.01889):

    out = sum_r exp(lse_r - lse) out_r
    weight_ij = exp(score_ij - lse_i)        d score_ij = weight_ij (d out_i . v_j - d out_i . out_i)

Shapes: those of `lsh_layout.py`; K chunks of a slice, P places of a chunk.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from reforge.models.lsh_hashing import nearest, sort_by_bucket
from reforge.models.lsh_layout import Layout

__all__ = ["backward", "forward", "nearest", "sort_by_bucket"]

# Scores of a slice: 2 MiB in float32, which stays in the cache of a CPU core; a GPU wants few large steps instead.
SLICE_VALUES = 2**19
SLICE_VALUES_GPU = 2**26
# Added to the score of a query's own position, and twice that to a hidden key's: the difference of two positions,
# times this and clamped, is the bias itself. It stands for reformer-pytorch's -5e4; being a power of two, it is exact.
OWN = -(2.0**16)
# The log-sum-exp of a token that sees itself alone: it makes all weights zero, and what is its own is added apart, as
# numbers near `OWN` are too coarse for a softmax.
ALONE = torch.inf


def forward(qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The output [B, T, H, D] and the log-sum-exp [F] of all visited scores."""
    q_FD, k_FD, v_FD = _prepare(qk_BTHD, v_BTHD, layout)
    statistics = torch.promote_types(q_FD.dtype, torch.float32)
    out_FD = torch.zeros_like(q_FD, dtype=statistics)
    lse_F = torch.full_like(out_FD[:, 0], -torch.inf)
    for own, seen, bias in _slices(layout, qk_BTHD):
        out, lse = _attend(_take(q_FD, own), _take(k_FD, seen), _take(v_FD, seen), bias)
        _merge(out_FD, lse_F, own.flatten(), out.flatten(0, 1).to(statistics), lse.flatten())
    alone_F = lse_F < OWN / 2
    out_FD = torch.where(alone_F[:, None], v_FD, out_FD)
    lse_F.masked_fill_(alone_F, ALONE)
    return layout.unflatten(out_FD, qk_BTHD), lse_F


def backward(
    grad_BTHD: Tensor, qk_BTHD: Tensor, v_BTHD: Tensor, out_BTHD: Tensor, lse_F: Tensor, layout: Layout
) -> tuple[Tensor, Tensor]:
    """Gradients of `qk_BTHD` and `v_BTHD`."""
    q_FD, k_FD, v_FD = _prepare(qk_BTHD, v_BTHD, layout)
    if layout.mask_BT is not None:
        grad_BTHD = grad_BTHD * layout.mask_BT[:, :, None, None]
    grad_FD, out_FD = _working(layout.flatten(grad_BTHD)), _working(layout.flatten(out_BTHD))
    grad_q, grad_k, grad_v = (torch.zeros_like(q_FD, dtype=lse_F.dtype) for _ in range(3))
    for own, seen, bias in _slices(layout, qk_BTHD):
        grad, q, out, lse = (_take(x, own) for x in (grad_FD, q_FD, out_FD, lse_F))
        parts = _attend_backward(grad, q, _take(k_FD, seen), _take(v_FD, seen), out, lse, bias)
        for total, index, part in zip((grad_q, grad_k, grad_v), (own, seen, seen), parts, strict=True):
            total.index_add_(0, index.flatten(), part.flatten(0, 1).to(total.dtype))
    grad_v.addcmul_(grad_FD, (lse_F == ALONE)[:, None])
    grad_qk = grad_q.add_(_normalize_backward(grad_k, q_FD, k_FD))
    return layout.rotate(layout.unflatten(grad_qk, qk_BTHD), inverse=True), layout.unflatten(grad_v, v_BTHD)


def _prepare(qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys (queries of length 1) and values, [F, D] each."""
    q_FD = _working(layout.flatten(layout.rotate(qk_BTHD)))
    return q_FD, F.normalize(q_FD, dim=-1).type_as(q_FD), _working(layout.flatten(v_BTHD))


def _working(x: Tensor) -> Tensor:
    """In float32 on a CPU: its fused operators are slower in bfloat16, the more so backward."""
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


def _normalize_backward(grad_k: Tensor, q_FD: Tensor, k_FD: Tensor) -> Tensor:
    along = (grad_k * k_FD).sum(dim=-1, keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(q_FD, dim=-1, keepdim=True, dtype=grad_k.dtype)
    return (grad_k - along * k_FD) / norm.clamp_min(1e-12)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """`x[index]`; for rows of a matrix this is five times as fast on a CPU."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


def _merge(out_FD: Tensor, lse_F: Tensor, at: Tensor, out: Tensor, lse: Tensor) -> None:
    """Add a slice's attention to the running one, in place; within a slice each position stands once."""
    before = lse_F.index_select(0, at)
    merged = torch.logaddexp(before, lse)
    kept, added = (torch.exp(x - merged)[:, None] for x in (before, lse))
    out_FD.index_copy_(0, at, out_FD.index_select(0, at).mul_(kept).addcmul_(out, added))
    lse_F.index_copy_(0, at, merged)


def _slices(layout: Layout, like_BTHD: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Own places [K, P] and seen places [K, 2 P] as indices into F, and the bias of the scores [K, P, 2 P]."""
    B, T, H, _ = like_BTHD.shape
    exact = torch.promote_types(like_BTHD.dtype, torch.float32)
    position_F = torch.arange(layout.num_slots, device=like_BTHD.device, dtype=exact).repeat(B * H) * -OWN
    padding_F = None
    if layout.mask_BT is not None or layout.num_slots != T:
        padding_F = ~layout.real_BS(B, T).repeat_interleave(H, dim=0).flatten()
    values = SLICE_VALUES_GPU if like_BTHD.is_cuda else SLICE_VALUES
    num_chunks = max(1, values // (2 * layout.bucket_size**2))
    for r in range(layout.order_NRS.shape[1]):
        for own, seen in zip(*(torch.split(x, num_chunks) for x in layout.chunks(r)), strict=True):
            bias = (_take(position_F, own)[..., None] - _take(position_F, seen)[:, None]).add_(OWN)
            bias = bias.clamp_(2 * OWN, 0) if layout.causal else bias.sub_(OWN).abs_().add_(OWN).clamp_(max=0)
            if padding_F is not None:
                bias.masked_fill_(_take(padding_F, seen)[:, None], 2 * OWN)
            yield own, seen, bias


def _attend(q_KPD: Tensor, k_KXD: Tensor, v_KXD: Tensor, bias_KPX: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of each chunk [K, P, D] and its log-sum-exp [K, P]."""
    scale = q_KPD.shape[-1] ** -0.5
    if q_KPD.device.type == "cpu":
        q, k, v, bias = (x.unsqueeze(1) for x in (q_KPD, k_KXD, v_KXD, bias_KPX))
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, attn_mask=bias, scale=scale
        )
        return out.squeeze(1), lse.squeeze(1)
    return attend_plainly(q_KPD, k_KXD, v_KXD, bias_KPX)


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values of each chunk, given the global output and log-sum-exp."""
    if q.device.type == "cpu":
        grad, q, k, v, out, lse, bias = (x.unsqueeze(1) for x in (grad, q, k, v, out, lse, bias))
        parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, False, attn_mask=bias, scale=q.shape[-1] ** -0.5
        )
        grad_q, grad_k, grad_v = (part.squeeze(1) for part in parts)
        return grad_q, grad_k, grad_v
    return attend_plainly_backward(grad, q, k, v, out, lse, bias)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """What `_attend` computes, where torch has no fused kernel with a log-sum-exp and a bias for it."""
    scores = (q @ k.mT).to(bias.dtype).mul_(q.shape[-1] ** -0.5).add_(bias)
    lse = scores.logsumexp(dim=-1)
    return scores.sub_(lse[..., None]).exp_().to(v.dtype) @ v, lse


def attend_plainly_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_attend_backward` computes."""
    scale = q.shape[-1] ** -0.5
    weights = (q @ k.mT).to(bias.dtype).mul_(scale).add_(bias).sub_(lse[..., None]).exp_()
    delta = (grad.to(bias.dtype) * out).sum(dim=-1, keepdim=True)
    grad_scores = (grad @ v.mT).to(bias.dtype).sub_(delta).mul_(weights).mul_(scale).to(q.dtype)
    return grad_scores @ k, grad_scores.mT @ q, weights.to(v.dtype).mT @ grad
