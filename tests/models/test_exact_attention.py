"""The fused exact attention against the formula written out, outputs and gradients."""

import pytest
import torch
from reformer_pytorch.reformer_pytorch import FixedPositionalEmbedding, FullQKAttention
from torch import Tensor

from reforge.models.exact_attention import ExactSharedQKAttention

N, T, D = 6, 10, 8


def reference(qk: Tensor, v: Tensor, causal: bool, real_NT: Tensor, sinusoids: Tensor | None) -> Tensor:
    """Shared-query-key attention, token by token."""
    if sinusoids is not None:
        sin, cos = sinusoids[0].chunk(2, dim=-1)
        even, odd = qk[..., 0::2], qk[..., 1::2]
        qk = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    rows = []
    for n in range(N):
        for i in range(T):
            seen = [j for j in range(T) if real_NT[n, j] and j != i and not (causal and j > i)] or [i]
            keys = qk[n, seen] / qk[n, seen].norm(dim=-1, keepdim=True)
            rows.append((keys @ qk[n, i] / D**0.5).softmax(0) @ v[n, seen])
    return torch.stack(rows).view(N, T, D)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_equals_the_formula(causal: bool, padded: bool, rotary: bool, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(N, T, D, dtype=dtype, requires_grad=True) for _ in range(2)]
    real_NT = torch.arange(T).expand(N, T) < (torch.arange(N)[:, None] + 4 if padded else T)
    sinusoids = FixedPositionalEmbedding(D)(torch.zeros(1, T, D, dtype=dtype)) if rotary else None
    attention = ExactSharedQKAttention(FullQKAttention(causal=causal))
    out, _, _ = attention(*inputs, query_len=T, input_mask=real_NT if padded else None, pos_emb=sinusoids)
    expected = reference(*inputs, causal, real_NT, sinusoids)
    weights = torch.randn(N, T, D, dtype=dtype) * real_NT[..., None]
    torch.testing.assert_close(out[real_NT], expected[real_NT], rtol=tolerance, atol=tolerance)
    gradients = torch.autograd.grad((out * weights).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=tolerance, atol=tolerance)


def test_dropout_acts_in_training_only() -> None:
    attention = ExactSharedQKAttention(FullQKAttention(dropout=0.5))
    qk, v = torch.randn(2, N, T, D)
    assert not torch.equal(attention(qk, v)[0], attention(qk, v)[0])
    attention.eval()
    assert torch.equal(attention(qk, v)[0], attention(qk, v)[0])
