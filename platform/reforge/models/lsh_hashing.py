"""Locality-sensitive hashing of tokens into buckets, and the order in which attention then visits them.

    rotations  ~ N(0, 1), drawn at the size that a full block needs
    bucket     = argmax([x R, -x R])                      (Andoni et al. 2015, https://arxiv.org/abs/1509.02897)
    order      = positions sorted by (bucket, position), padding behind all real tokens, once for each round

A row of n real tokens has its own number of buckets, 2 ceil(n / 2 bucket_size), and uses as many columns of the
rotations: what it is padded to changes nothing.

Shapes: B batch, T tokens, H heads, D width of a head, N batch x heads, R rounds, S tokens padded to whole pairs of
buckets, C half of the buckets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

# Rotated values of a slice of tokens: 1 MiB in float32, which stays in the cache of a CPU core.
SLICE_VALUES = 2**18
# A GPU wants few large steps instead.
SLICE_VALUES_GPU = 2**26


@dataclass
class Hashes:
    """The buckets of one forward pass; a second pass that is handed them visits the same keys.

    Rounding in recomputed activations would otherwise move tokens near a boundary into other buckets.
    """

    order: Tensor | None = None
    """[N, R, S], int32: the position at each place of the sorted sequence."""
    buckets: Tensor | None = None
    """[N, R, S], int32, by position; padding has a number above all others."""


Nearest = Callable[[Tensor, Tensor | None], Tensor]
Number = TypeVar("Number", int, Tensor)


def whole_buckets(num_tokens: Number, bucket_size: int) -> Number:
    """The even number of buckets that holds `num_tokens`; one token at least is counted."""
    num_pairs = (num_tokens + 2 * bucket_size - 1) // (2 * bucket_size)
    return 2 * (num_pairs.clamp_min(1) if isinstance(num_pairs, Tensor) else max(1, num_pairs))


def draw_rotations(like_BTHD: Tensor, num_hashes: int, num_buckets: int, per_head: bool) -> Tensor:
    """Random rotations [1 or N, D, R, C], the same numbers that reformer-pytorch draws."""
    num_rows = like_BTHD.shape[0] * like_BTHD.shape[2] if per_head else 1
    shape = (num_rows, like_BTHD.shape[3], num_hashes, num_buckets // 2)
    return torch.randn(shape, dtype=like_BTHD.dtype, device=like_BTHD.device)


def nearest(rotated: Tensor, num_columns: Tensor | None) -> Tensor:
    """argmax over the last dimension of [x, -x], the first of equals; of both, the first `num_columns` if given."""
    high = low = rotated
    if num_columns is not None:
        unused = torch.arange(rotated.shape[-1], device=rotated.device) >= num_columns
        high, low = rotated.masked_fill(unused, -torch.inf), rotated.masked_fill(unused, torch.inf)
    highest, positive = high.max(dim=-1)
    lowest, negative = low.min(dim=-1)
    return torch.where(highest >= -lowest, positive, negative + rotated.shape[-1])


def hash_tokens(
    x_BTHD: Tensor, rotations: Tensor, num_buckets_B: Tensor | None = None, nearest: Nearest = nearest
) -> Tensor:
    """The bucket of each token in each round, [N, R, T], int32; each row uses its own number of buckets.

    Buckets of the negative half count on from C whatever the row uses: only their order matters. `nearest` may be
    another function that gives the same.
    """
    B, T, H, D = x_BTHD.shape
    R, C = rotations.shape[2:]
    rotations_BHDK = rotations.reshape(-1, H if len(rotations) > 1 else 1, D, R * C).expand(B, -1, -1, -1)
    buckets_BHRT = torch.empty(B, H, R, T, dtype=torch.int32, device=x_BTHD.device)
    step = max(1, (SLICE_VALUES_GPU if x_BTHD.is_cuda else SLICE_VALUES) // (H * R * C))
    for b in range(B):
        num_columns = None if num_buckets_B is None else num_buckets_B[b] // 2
        for start in range(0, T, step):
            part_HTD = x_BTHD[b, start : start + step].transpose(0, 1)
            rotated_HTRC = torch.matmul(part_HTD, rotations_BHDK[b]).view(H, -1, R, C)
            buckets_HTR = nearest(rotated_HTRC, num_columns)
            buckets_BHRT[b, :, :, start : start + step] = buckets_HTR.transpose(1, 2)
    return buckets_BHRT.flatten(0, 1)


def pad_buckets(buckets_NRT: Tensor, num_slots: int, num_buckets: int, mask_BT: Tensor | None) -> Tensor:
    """Buckets [N, R, S]; padding, and what the mask hides, goes behind the last bucket."""
    N, R, T = buckets_NRT.shape
    if mask_BT is not None:
        padding_NT = (~mask_BT).repeat_interleave(N // len(mask_BT), dim=0)
        buckets_NRT = buckets_NRT.masked_fill(padding_NT[:, None], num_buckets)
    behind = buckets_NRT.new_full((N, R, num_slots - T), num_buckets)
    return torch.cat((buckets_NRT, behind), dim=-1)


def sort_by_bucket(buckets_NRS: Tensor, num_buckets: int) -> Tensor:
    """The position at each place of the sequence sorted by bucket, then position: [N, R, S], int32."""
    return buckets_NRS.sort(dim=-1, stable=True).indices.int()
