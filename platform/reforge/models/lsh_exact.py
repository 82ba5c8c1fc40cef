"""Exact shared-query-key attention by the CPU kernel of LSH attention: one round, every chunk sees every chunk.

It computes what `exact_attention.py` does, keeps no scores, leaves out what is hidden (later chunks in causal work,
padding always), and needs no bias.

Shapes: those of `lsh_layout.py`.
"""

import torch
from torch import Tensor

from reforge.models import lsh_kernel
from reforge.models.lsh_attention import SlicedAttention
from reforge.models.lsh_hashing import pad_buckets
from reforge.models.lsh_layout import Layout

CHUNK = 64


def can_attend_exactly(qk_BTHD: Tensor) -> bool:
    """Whether the kernel takes these inputs and could be built; builds it at the first call."""
    return lsh_kernel.suits(qk_BTHD, CHUNK) and lsh_kernel.is_available()


def attend_exactly(
    qk_BTHD: Tensor, v_BTHD: Tensor, causal: bool, mask_BT: Tensor | None = None, rotary: Tensor | None = None
) -> Tensor:
    """Attention [B, T, H, D] of each token over all others, over itself only where it sees none; zeros at padding.

    `mask_BT` is True at real tokens, None where all are; `rotary` is [1, T, D], sines before cosines, or None.
    """
    assert can_attend_exactly(qk_BTHD)
    B, T, H, _ = qk_BTHD.shape
    multiple = lsh_kernel.MULTIPLE
    chunk = min(CHUNK, -(-T // multiple) * multiple)
    # The only bucket is that of the real tokens: sorting by it puts padding behind them.
    one = pad_buckets(torch.zeros(B * H, 1, T, dtype=torch.int32), -(-T // chunk) * chunk, 1, mask_BT)
    order = lsh_kernel.sort_by_bucket(one, 1)
    lengths_B = None if mask_BT is None else mask_BT.sum(dim=1)
    layout = Layout(order, mask_BT, lengths_B, chunk, causal, rotary, all_pairs=True)
    with torch.autocast(qk_BTHD.device.type, enabled=False):
        out: Tensor = SlicedAttention.apply(qk_BTHD, v_BTHD, layout, lsh_kernel)  # type: ignore[no-untyped-call]
    return out
