"""The fused exact attention against the formula written out, outputs and gradients."""

import pytest
import torch
from reformer_pytorch.reformer_pytorch import FixedPositionalEmbedding, apply_rotary_pos_emb
from torch import Tensor

import reforge.models.exact_attention
from reforge.models.exact_attention import exact_attention, query_blocks, rotate

B, T, H, D = 3, 10, 2, 8


def reference(qk: Tensor, v: Tensor, causal: bool, real_BT: Tensor) -> Tensor:
    """Shared-query-key attention, token by token; [B, T, H, D]."""
    rows = []
    for b in range(B):
        for i in range(T):
            seen = [j for j in range(T) if real_BT[b, j] and j != i and not (causal and j > i)] or [i]
            keys = qk[b, seen] / qk[b, seen].norm(dim=-1, keepdim=True)
            weights = (torch.einsum("shd,hd->hs", keys, qk[b, i]) / D**0.5).softmax(-1)
            rows.append(torch.einsum("hs,shd->hd", weights, v[b, seen]))
    return torch.stack(rows).view(B, T, H, D)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("block", [256, 4, 0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_equals_the_formula(
    causal: bool, padded: bool, block: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block 0: without blocks, where that can be."""
    module = reforge.models.exact_attention
    monkeypatch.setattr(module, "CPU_BLOCKS_UP_TO", 1024 if block else 0)
    monkeypatch.setattr(module, "CAUSAL_BLOCK", block or 256)
    torch.manual_seed(0)
    qk, v = (torch.randn(B, T, H, D, dtype=dtype, requires_grad=True) for _ in range(2))
    real_BT = torch.arange(T).expand(B, T) < (torch.arange(B)[:, None] + 4 if padded else T)
    out = exact_attention(qk, v, query_blocks(T, causal, real_BT if padded else None, qk))
    expected = reference(qk, v, causal, real_BT)
    torch.testing.assert_close(out[real_BT], expected[real_BT], rtol=tolerance, atol=tolerance)
    weights = torch.randn(B, T, H, D, dtype=dtype) * real_BT[..., None, None]
    gradients = torch.autograd.grad((out * weights).sum(), (qk, v))
    expected_gradients = torch.autograd.grad((expected * weights).sum(), (qk, v))
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("causal", [False, True])
def test_every_token_sees_the_memories(causal: bool) -> None:
    torch.manual_seed(0)
    qk, v = torch.randn(2, B, T + 3, H, D)
    bias = query_blocks(T, causal, torch.arange(T).expand(B, T) < 1, qk, num_memories=3)
    out = exact_attention(qk, v, bias)
    assert out.shape == (B, T, H, D)
    changed = v.clone()
    changed[:, T:] += 1
    moved = (exact_attention(qk, changed, bias) - out).abs().amax(dim=(2, 3))
    assert (moved > 1e-3).all()


@pytest.mark.parametrize("memories", [0, 2])
def test_rotation_is_the_librarys(memories: int) -> None:
    x = torch.randn(B, T + memories, H, D, dtype=torch.float64, requires_grad=True)
    angles = FixedPositionalEmbedding(D)(torch.zeros(1, T, D, dtype=torch.float64))
    expected = apply_rotary_pos_emb(x.transpose(1, 2).flatten(0, 1), angles).unflatten(0, (B, H)).transpose(1, 2)
    torch.testing.assert_close(rotate(x, angles), expected)
    weights = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (rotate(x, angles), expected))
    torch.testing.assert_close(ours, theirs)


def test_a_row_without_a_real_token_stays_finite() -> None:
    qk = torch.randn(B, T, H, D, requires_grad=True)
    out = exact_attention(qk, qk, query_blocks(T, True, torch.zeros(B, T, dtype=torch.bool), qk))
    out.sum().backward()
    assert out.isfinite().all()
    assert qk.grad is not None
    assert qk.grad.isfinite().all()


def test_dropout_acts() -> None:
    qk, v = torch.randn(2, B, T, H, D)
    bias = query_blocks(T, False, None, qk)
    assert not torch.equal(exact_attention(qk, v, bias, 0.5), exact_attention(qk, v, bias, 0.5))


@pytest.mark.parametrize("causal", [False, True])
def test_bf16_stays_near_float32(causal: bool) -> None:
    torch.manual_seed(0)
    qk, v = (torch.randn(B, T, H, D, requires_grad=True) for _ in range(2))
    real_BT = torch.arange(T).expand(B, T) < torch.tensor([T, 4, 1])[:, None]
    blocks = query_blocks(T, causal, real_BT, qk)
    weights = torch.randn(B, T, H, D) * real_BT[..., None, None]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = exact_attention(qk.to(dtype), v.to(dtype), blocks)
        assert out.dtype == dtype
        results.append((out.float() * weights, *torch.autograd.grad((out.float() * weights).sum(), (qk, v))))
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() < 0.02 * exact.norm()


def test_one_causal_token_sees_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reforge.models.exact_attention, "CPU_BLOCKS_UP_TO", 0)
    qk, v = torch.randn(2, B, 1, H, D)
    assert torch.equal(exact_attention(qk, v, query_blocks(1, True, None, qk)), v)
