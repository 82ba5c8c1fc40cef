"""LSH attention (Kitaev et al. 2020, https://arxiv.org/abs/2001.04451): what reformer-pytorch's computes, faster.

    qk -> buckets of each round -> order -> each chunk attends to itself and the chunk before -> rounds merge by their
                                            log-sum-exp

Given the same buckets it is reformer-pytorch's `LSHAttention`, in outputs and gradients. Three things differ: memory
is linear in the length with a small factor (scores are computed again in the backward pass), a row's outputs do not
depend on what it is padded to, and any length up to `block_tokens` goes in.

Shapes: B batch, T tokens, H heads, D width of a head, N batch x heads, R rounds, F positions of all padded rows.
"""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reforge.models import lsh_flex, lsh_kernel, lsh_operators
from reforge.models.lsh_hashing import (
    Hashes,
    draw_rotations,
    hash_tokens,
    pad_buckets,
    whole_buckets,
)
from reforge.models.lsh_layout import Layout
from reforge.models.lsh_reference import attend

__all__ = ["Hashes", "LSHAttention"]

Backend = Literal["auto", "operators", "kernel", "flex"]


class LSHAttention(nn.Module):
    """Shared-query-key attention within buckets; no parameters, no buffers.

    `block_tokens`: the most tokens of a row. The random rotations are drawn at its size, whatever the row's.
    `backend`: how it is computed; with dropout, counted duplicates or single buckets always by `lsh_reference`.
    """

    def __init__(
        self,
        *,
        block_tokens: int,
        bucket_size: int,
        num_hashes: int,
        causal: bool,
        dropout: float = 0.0,
        attend_across_buckets: bool = True,
        allow_duplicate_attention: bool = True,
        random_rotations_per_head: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.block_tokens = block_tokens
        self.bucket_size = bucket_size
        self.num_hashes = num_hashes
        self.causal = causal
        self.dropout = dropout
        self.attend_across_buckets = attend_across_buckets
        self.allow_duplicate_attention = allow_duplicate_attention
        self.random_rotations_per_head = random_rotations_per_head
        self.backend = backend

    def forward(
        self,
        qk_BTHD: Tensor,
        v_BTHD: Tensor,
        mask_BT: Tensor | None = None,
        rotary: Tensor | None = None,
        hashes: Hashes | None = None,
    ) -> Tensor:
        """Attention [B, T, H, D]; zeros at padding. `mask_BT` is True at real tokens, None where all are.

        `rotary` [1, T, D] turns what attends, not what is hashed. An empty `hashes` is filled, a filled one is used.
        Random numbers are drawn alike in both cases, so that what follows them is the same in a recomputation.
        """
        assert qk_BTHD.shape[1] <= self.block_tokens, (qk_BTHD.shape, self.block_tokens)
        hashes = Hashes() if hashes is None else hashes
        lengths_B = None if mask_BT is None else mask_BT.sum(dim=1)
        with torch.autocast(qk_BTHD.device.type, enabled=False):
            self._fill(hashes, qk_BTHD.detach(), mask_BT, lengths_B)
            assert hashes.order is not None
            layout = Layout(hashes.order, mask_BT, lengths_B, self.bucket_size, self.causal, rotary)
            return self._attend(qk_BTHD, v_BTHD, layout, hashes)

    def _fill(self, hashes: Hashes, qk_BTHD: Tensor, mask_BT: Tensor | None, lengths_B: Tensor | None) -> None:
        most = whole_buckets(self.block_tokens, self.bucket_size)
        rotations = draw_rotations(qk_BTHD, self.num_hashes, most, self.random_rotations_per_head)
        if hashes.order is not None:
            return
        num_buckets = whole_buckets(qk_BTHD.shape[1], self.bucket_size)
        num_buckets_B = None if lengths_B is None else whole_buckets(lengths_B, self.bucket_size)
        path = self._path(qk_BTHD)
        buckets_NRT = hash_tokens(qk_BTHD, rotations[..., : num_buckets // 2], num_buckets_B, path.nearest)
        buckets_NRS = pad_buckets(buckets_NRT, num_buckets * self.bucket_size, num_buckets, mask_BT)
        hashes.order = path.sort_by_bucket(buckets_NRS, num_buckets)
        hashes.buckets = None if self.attend_across_buckets else buckets_NRS

    def _attend(self, qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout, hashes: Hashes) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if dropout or not self.attend_across_buckets or not self.allow_duplicate_attention:
            buckets = None if self.attend_across_buckets else hashes.buckets
            return attend(qk_BTHD, v_BTHD, layout, buckets, not self.allow_duplicate_attention, dropout)
        if self.backend == "flex":
            return lsh_flex.attend(qk_BTHD, v_BTHD, layout)
        out: Tensor = SlicedAttention.apply(qk_BTHD, v_BTHD, layout, self._path(qk_BTHD))  # type: ignore[no-untyped-call]
        return out

    def _path(self, qk_BTHD: Tensor) -> "Path":
        """The module that computes; "auto" is the kernel where there is one for these inputs, else the operators."""
        if self.backend in ("operators", "flex"):
            return lsh_operators
        if lsh_kernel.suits(qk_BTHD, self.bucket_size) and lsh_kernel.is_available():
            return lsh_kernel
        if self.backend == "kernel":
            rule = f"float32 or bfloat16 on a CPU, heads and buckets of a multiple of {lsh_kernel.MULTIPLE}"
            got = f"{qk_BTHD.dtype} on {qk_BTHD.device}, heads of {qk_BTHD.shape[-1]}, buckets of {self.bucket_size}"
            raise ValueError(f"The kernel needs a compiler and takes {rule}; these are {got}.")
        return lsh_operators


class Path(Protocol):
    """A module that computes; `lsh_operators` and `lsh_hashing` say what each function gives."""

    def nearest(self, rotated: Tensor, num_columns: Tensor | None) -> Tensor: ...

    def sort_by_bucket(self, buckets_NRS: Tensor, num_buckets: int) -> Tensor: ...

    def forward(self, qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout) -> tuple[Tensor, Tensor]: ...

    def backward(
        self, grad_BTHD: Tensor, qk_BTHD: Tensor, v_BTHD: Tensor, out_BTHD: Tensor, lse_F: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor]: ...


class SlicedAttention(torch.autograd.Function):
    """Attention that keeps its inputs, its output and one log-sum-exp a token, and computes the scores twice."""

    @staticmethod
    def forward(ctx: Any, qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout, path: Path) -> Tensor:
        out_BTHD, lse_F = path.forward(qk_BTHD, v_BTHD, layout)
        ctx.save_for_backward(qk_BTHD, v_BTHD, out_BTHD, lse_F)
        ctx.layout, ctx.path = layout, path
        return out_BTHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTHD: Tensor) -> tuple[Tensor, Tensor, None, None]:
        qk_BTHD, v_BTHD, out_BTHD, lse_F = ctx.saved_tensors
        with torch.autocast(qk_BTHD.device.type, enabled=False):
            grad_qk, grad_v = ctx.path.backward(grad_BTHD, qk_BTHD, v_BTHD, out_BTHD, lse_F, ctx.layout)
        return grad_qk, grad_v, None, None
