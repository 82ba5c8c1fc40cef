"""The flex_attention path against the operators: uncompiled on a CPU, compiled where there is a GPU."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention

from reforge.models.lsh_attention import Hashes, LSHAttention
from reforge.models.lsh_flex import visits
from reforge.models.lsh_hashing import pad_buckets, sort_by_bucket
from reforge.models.lsh_layout import Layout

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="flex_attention compiles for CUDA")


@pytest.fixture
def _flex_trains_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses gradients on a CPU at the door, though its uncompiled formula has them."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda query, key, value: None)


def results(
    backend: str, causal: bool, padded: bool, device: str, dtype: torch.dtype, bucket_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and gradients; the buckets, the inputs and the loss are the same for all backends."""
    torch.manual_seed(0)
    shape = (3, 6 * bucket_size, 2, 16)
    qk, v, weights = (torch.randn(shape, dtype=dtype) for _ in range(3))
    qk, v = (x.to(device).requires_grad_() for x in (qk, v))
    mask = torch.arange(shape[1]) < torch.tensor([[shape[1]], [2 * bucket_size - 1], [5 * bucket_size + 1]])
    attention = LSHAttention(
        block_tokens=shape[1], bucket_size=bucket_size, num_hashes=3, causal=causal, backend=backend
    )
    hashes = Hashes()
    LSHAttention(block_tokens=shape[1], bucket_size=bucket_size, num_hashes=3, causal=causal, backend="operators")(
        qk, v, mask.to(device) if padded else None, hashes=hashes
    )
    out = attention(qk, v, mask.to(device) if padded else None, hashes=hashes)
    return out, *torch.autograd.grad((out * weights.to(device)).sum(), (qk, v))


@pytest.mark.usefixtures("_flex_trains_on_a_cpu")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_flex_is_the_operators_uncompiled(causal: bool, padded: bool) -> None:
    flex, operators = (results(b, causal, padded, "cpu", torch.float64, 4) for b in ("flex", "operators"))
    for found, expected in zip(flex, operators, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("backend", ["flex", "operators"])
def test_a_gpu_computes_what_a_cpu_computes(backend: str, causal: bool, padded: bool) -> None:
    found = results(backend, causal, padded, "cuda", torch.float32, 64)
    for x, expected in zip(found, results("operators", causal, padded, "cpu", torch.float32, 64), strict=True):
        torch.testing.assert_close(x.cpu(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("lengths", [None, [96, 33, 0]])
def test_the_blocks_hold_all_that_is_seen(lengths: list[int] | None) -> None:
    """Uncompiled, flex_attention looks at every pair; the kernel only into the blocks that queries and keys list."""
    P, R, S = 16, 3, 96
    torch.manual_seed(0)
    mask = None if lengths is None else torch.arange(S) < torch.tensor(lengths)[:, None]
    buckets = pad_buckets(torch.randint(6, (3, R, S)).int(), S, 6, mask)
    real = None if lengths is None else torch.tensor(lengths)
    layout = Layout(sort_by_bucket(buckets, 6), mask, real, P, True, None)
    found = visits(layout, layout.order_NRS.flatten(1).long(), S)
    seen = flex_attention.create_mask(found.mask_mod, 3, 1, R * S, R * S, device="cpu")[:, 0]
    touched = seen.unflatten(2, (-1, P)).unflatten(1, (-1, P)).any(dim=4).any(dim=2)
    by_query = listed(found.kv_num_blocks, found.kv_indices)
    assert not (touched & ~by_query).any()
    assert torch.equal(by_query, listed(found.q_num_blocks, found.q_indices).mT)


def listed(number: Tensor | None, indices: Tensor | None) -> Tensor:
    """Which blocks each block lists, as a matrix."""
    assert number is not None
    assert indices is not None
    N, _, C, width = indices.shape
    used = torch.arange(width) < number[..., None]
    return torch.zeros(N, C, C).scatter_add(2, indices[:, 0].long(), used[:, 0].float()) > 0
