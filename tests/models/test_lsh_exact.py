"""Exact attention by the kernel against the formula written out, outputs and gradients."""

import pytest
import torch
from reformer_pytorch.reformer_pytorch import FixedPositionalEmbedding, apply_rotary_pos_emb
from torch import Tensor

from reforge.models.lsh_exact import attend_exactly, can_attend_exactly

B, H, D = 3, 2, 32

pytestmark = pytest.mark.skipif(not can_attend_exactly(torch.zeros(1, 1, 1, D)), reason="the kernel could not be built")


def formula(qk_BTHD: Tensor, v_BTHD: Tensor, causal: bool, mask_BT: Tensor, rotary: Tensor | None) -> Tensor:
    q = qk_BTHD.transpose(1, 2)
    num_tokens = q.shape[2]
    if rotary is not None:
        q = apply_rotary_pos_emb(q.flatten(0, 1), rotary).view(q.shape)
    scores = q @ torch.nn.functional.normalize(q, dim=-1).mT * D**-0.5
    hidden = ~mask_BT[:, None, None, :]
    if causal:
        hidden = hidden | torch.ones(num_tokens, num_tokens, dtype=torch.bool).triu(1)
    own = torch.eye(num_tokens, dtype=torch.bool)
    weights = scores.masked_fill(hidden, -1e9).masked_fill(own, -5e4).softmax(dim=-1)
    return (weights @ v_BTHD.transpose(1, 2)).transpose(1, 2) * mask_BT[:, :, None, None]


@pytest.mark.parametrize("num_tokens", [1, 20, 64, 150])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_equals_the_formula(
    num_tokens: int, causal: bool, padded: bool, rotary: bool, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    shape = (B, num_tokens, H, D)
    qk, v, weights = (torch.randn(shape, dtype=dtype) for _ in range(3))
    mask_BT = torch.arange(num_tokens) < torch.tensor([[num_tokens], [num_tokens // 2], [0]])
    angles = FixedPositionalEmbedding(D)(torch.zeros(1, num_tokens, D)).double() if rotary else None
    mask_BT = mask_BT if padded else torch.ones_like(mask_BT)
    results = []
    for exact in (False, True):
        inputs = [x.to(torch.float64 if exact else dtype).requires_grad_() for x in (qk, v)]
        attend = formula if exact else attend_exactly
        out = attend(*inputs, causal, mask_BT if padded or exact else None, angles)
        results.append((out, *torch.autograd.grad((out * weights).sum(), inputs)))
    for found, expected in zip(*results, strict=True):
        assert (found.double() - expected).norm() <= tolerance * expected.norm() + 1e-12
