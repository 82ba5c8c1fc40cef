"""Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) and sinusoids (Vaswani et al. 2017, section 3.5).

A head's values 2i and 2i + 1 are one point of a plane, turned by position x 10000^(-2i/d): the product of a query and
a key then depends on how far apart they are, not on where. As complex numbers, turning is one multiplication, which on
a CPU takes a third of the time of its four real ones.

Shapes: B batch, T tokens, H heads, K width of a head, P = K / 2 planes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BASE = 10_000.0


def angles(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """position x 10000^(-2i/width) for i below width / 2, [..., width / 2]; at least float32 whatever the dtype."""
    dtype = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, width, 2, dtype=dtype, device=positions.device) / width
    return positions[..., None] * BASE**-exponents


def rotation(positions_T: Tensor, head_width: int, dtype: torch.dtype) -> Tensor:
    """How queries and keys at the given positions are turned: complex numbers of length 1, [T, P]."""
    angles_TP = angles(positions_T, head_width, dtype)
    return torch.polar(torch.ones_like(angles_TP), angles_TP)


def sinusoids(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Fixed position embeddings [..., width]: the sines, then the cosines."""
    turns = angles(positions, width, dtype)
    return torch.cat((turns.sin(), turns.cos()), dim=-1)


def turn(x: Tensor, turns: Tensor, out: Tensor) -> None:
    """Write `x` [..., K], multiplied as complex numbers by `turns` [..., P], into `out`."""
    if x.dtype == out.dtype == turns.real.dtype:
        torch.mul(as_complex(x), turns, out=as_complex(out))
    else:  # half precision has no complex numbers
        out.copy_(torch.view_as_real(as_complex(x.to(turns.real.dtype)) * turns).flatten(-2))


def as_complex(x: Tensor) -> Tensor:
    """Neighbouring values [..., K] as complex numbers [..., P], a view of them."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))


def dense(x: Tensor) -> Tensor:
    """`x`, with neighbours in its last dimension lying side by side: gradients may come in any order."""
    return x if x.stride(-1) == 1 else x.contiguous()


class SplitAndTurn(torch.autograd.Function):
    """Queries, keys and values [B, T, H, K] from their fused projection [B, T, 3 H K], the first two turned.

    One buffer takes all three, in both directions: plain operations would keep the unturned ones for nothing and
    assemble the gradient twice.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, turns_TP: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(turns_TP)
        B, T, _ = qkv.shape
        qkv_BT3HK = qkv.view(B, T, 3, num_heads, -1)
        split_BT3HK = torch.empty_like(qkv_BT3HK)
        turn(qkv_BT3HK[:, :, :2], turns_TP[:, None, None], out=split_BT3HK[:, :, :2])
        split_BT3HK[:, :, 2].copy_(qkv_BT3HK[:, :, 2])
        q, k, v = split_BT3HK.unbind(2)
        return q, k, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (turns_TP,) = ctx.saved_tensors
        back_TP = turns_TP[:, None].conj_physical()
        grad_q, grad_k, grad_v = grads
        B, T, H, K = grad_q.shape
        grad_BT3HK = grad_q.new_empty((B, T, 3, H, K))
        turn(dense(grad_q), back_TP, out=grad_BT3HK[:, :, 0])
        turn(dense(grad_k), back_TP, out=grad_BT3HK[:, :, 1])
        grad_BT3HK[:, :, 2].copy_(grad_v)
        return grad_BT3HK.flatten(2), None, None


def split_heads(qkv: Tensor, num_heads: int, turns_TP: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, H, T, K] of the fused projection [B, T, 3 H K]; views, no transposed copies."""
    if turns_TP is None:
        split = qkv.view(*qkv.shape[:2], 3, num_heads, -1).unbind(2)
    else:
        split = SplitAndTurn.apply(qkv, turns_TP, num_heads)  # type: ignore[no-untyped-call]
    q, k, v = (part.transpose(1, 2) for part in split)
    return q, k, v
