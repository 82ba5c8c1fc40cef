"""LSH attention against reformer-pytorch's own: outputs, gradients, buckets; and what padding must not change."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reformer_pytorch.reformer_pytorch import FixedPositionalEmbedding
from reformer_pytorch.reformer_pytorch import LSHAttention as LibraryAttention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reforge.models import lsh_operators
from reforge.models.lsh_attention import LSHAttention
from reforge.models.lsh_hashing import Hashes, draw_rotations, hash_tokens, pad_buckets, sort_by_bucket, whole_buckets

B, T, H, D, BUCKET, ROUNDS = 3, 96, 3, 16, 16, 3
LENGTHS = torch.tensor([T, 33, 71])
BACKENDS = ["operators", "auto"]


def ours(**options: Any) -> LSHAttention:
    defaults: dict[str, Any] = {"block_tokens": T, "bucket_size": BUCKET, "num_hashes": ROUNDS, "causal": True}
    return LSHAttention(**(defaults | options))


def library(**options: Any) -> LibraryAttention:
    return LibraryAttention(bucket_size=BUCKET, n_hashes=ROUNDS, **({"causal": True} | options))


def merge_heads(x_BTHD: Tensor) -> Tensor:
    return x_BTHD.transpose(1, 2).reshape(-1, x_BTHD.shape[1], x_BTHD.shape[3])


def split_heads(x_NTD: Tensor, num_heads: int) -> Tensor:
    return x_NTD.unflatten(0, (-1, num_heads)).transpose(1, 2)


def inputs(dtype: torch.dtype = torch.float64, num_rows: int = B) -> tuple[Tensor, Tensor]:
    """What a layer hands in: views of the outputs of linear maps."""
    torch.manual_seed(0)
    qk, v = (torch.randn(num_rows, T, H * D, dtype=dtype).requires_grad_() for _ in range(2))
    return qk.unflatten(2, (H, D)), v.unflatten(2, (H, D))


def sinusoids(dtype: torch.dtype) -> Tensor:
    return FixedPositionalEmbedding(D)(torch.zeros(1, T, D, dtype=dtype)).to(dtype)


def random_hashes(lengths_B: Tensor) -> tuple[Hashes, list[Tensor]]:
    """Random buckets of rows of these lengths: as our attention takes them, and each row's as the library has them."""
    mask_BT = torch.arange(T) < lengths_B[:, None]
    rows = []
    for length in lengths_B.tolist():
        num_buckets = whole_buckets(length, BUCKET)
        # The library's padding must be behind all real tokens: later positions of the last bucket.
        buckets = torch.full((H, ROUNDS, T), num_buckets - 1)
        buckets[..., :length] = torch.randint(num_buckets, (H, ROUNDS, length))
        rows.append(buckets)
    buckets_NRS = pad_buckets(torch.cat(rows).int(), T, T // BUCKET, mask_BT)
    return Hashes(sort_by_bucket(buckets_NRS, T // BUCKET), buckets_NRS), rows


def expected(
    qk: Tensor, v: Tensor, lengths_B: Tensor, rows: list[Tensor], rotary: Tensor | None, options: dict[str, Any]
) -> Tensor:
    """The library's attention in float64, each row at the shortest length that its buckets allow."""
    outputs = []
    for b, length in enumerate(lengths_B.tolist()):
        num_buckets = whole_buckets(length, BUCKET)
        short = num_buckets * BUCKET
        attention = library(**options)
        offsets = torch.arange(ROUNDS)[:, None] * num_buckets
        given = (rows[b][..., :short] + offsets).flatten(1)
        attention.hash_vectors = functools.partial(lambda given, *_, **__: given, given)
        mask = (torch.arange(short) < length).expand(H, short)
        qk_NTD, v_NTD = (merge_heads(x[b : b + 1, :short].double()) for x in (qk, v))
        out, _, _ = attention(qk_NTD, v_NTD, input_mask=mask, pos_emb=None if rotary is None else rotary[:, :short])
        out = split_heads(out, H) * mask[0, :, None, None]
        outputs.append(torch.nn.functional.pad(out, (0, 0, 0, 0, 0, T - short)))
    return torch.cat(outputs)


def check_parity(
    attention: LSHAttention, options: dict[str, Any], padded: bool, rotary: bool, dtype: torch.dtype, tolerance: float
) -> None:
    """In float32 too the library computes in float64: near its -5e4 float32 is too coarse, and costs it 0.1 %."""
    qk, v = inputs(dtype)
    lengths_B = LENGTHS if padded else torch.full((B,), T)
    mask_BT = torch.arange(T) < lengths_B[:, None]
    hashes, rows = random_hashes(lengths_B)
    angles = sinusoids(dtype) if rotary else None
    out = attention(qk, v, mask_BT if padded else None, angles, hashes)
    angles = None if angles is None else angles.double()
    reference = expected(qk, v, lengths_B, rows, angles, options)
    torch.testing.assert_close(out.double(), reference, rtol=tolerance, atol=tolerance)
    # Also what comes back to padding must reach nothing.
    weights = torch.randn(out.shape, dtype=torch.float64)
    gradients = torch.autograd.grad((out * weights).sum(), (qk, v))
    references = torch.autograd.grad((reference * weights).sum(), (qk, v))
    for gradient, other in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_equals_reformer_pytorch(
    backend: Any, causal: bool, padded: bool, rotary: bool, dtype: torch.dtype, tolerance: float
) -> None:
    check_parity(ours(causal=causal, backend=backend), {"causal": causal}, padded, rotary, dtype, tolerance)


@pytest.mark.parametrize("options", [{"attend_across_buckets": False}, {"allow_duplicate_attention": False}])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_options_equal_reformer_pytorch(options: dict[str, Any], causal: bool, padded: bool) -> None:
    options = options | {"causal": causal}
    check_parity(ours(**options), options, padded, rotary=True, dtype=torch.float64, tolerance=1e-9)


def test_every_round_may_be_cut_into_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsh_operators, "SLICE_VALUES", 5 * 2 * BUCKET**2)
    check_parity(ours(backend="operators"), {}, padded=True, rotary=False, dtype=torch.float64, tolerance=1e-9)


def test_the_plain_operators_are_the_fused_ones() -> None:
    """A GPU has no fused operator that gives a log-sum-exp and takes a bias."""
    torch.manual_seed(0)
    grad, q = torch.randn(2, 5, 8, 16, dtype=torch.float64)
    k, v = torch.randn(2, 5, 16, 16, dtype=torch.float64)
    bias = torch.randn(5, 8, 16, dtype=torch.float64)
    plain, fused = lsh_operators.attend_plainly(q, k, v, bias), lsh_operators._attend(q, k, v, bias)
    torch.testing.assert_close(plain, fused)
    block = (grad, q, k, v, plain[0] / 2, plain[1] + 1, bias)
    torch.testing.assert_close(lsh_operators.attend_plainly_backward(*block), lsh_operators._attend_backward(*block))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("per_head", [False, True])
def test_the_buckets_are_the_librarys_bit_for_bit(dtype: torch.dtype, per_head: bool) -> None:
    x = torch.randn(2, 1024, 3, 64, dtype=dtype)
    attention = LibraryAttention(bucket_size=64, n_hashes=4, random_rotations_per_head=per_head)
    torch.manual_seed(1)
    buckets = attention.hash_vectors(16, merge_heads(x)).unflatten(1, (4, -1)) - torch.arange(4)[:, None] * 16
    torch.manual_seed(1)
    found = hash_tokens(x, draw_rotations(x, 4, 16, per_head))
    assert torch.equal(found.long(), buckets)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": False},
        {"random_rotations_per_head": True},
        {"dropout": 0.3},
        {"dropout": 0.3, "allow_duplicate_attention": False, "attend_across_buckets": False},
    ],
    ids=lambda options: "-".join(options) or "none",
)
def test_one_seed_gives_the_librarys_attention(backend: Any, options: dict[str, Any]) -> None:
    qk, v = inputs()
    torch.manual_seed(3)
    reference, _, _ = library(**options)(merge_heads(qk), merge_heads(v), pos_emb=sinusoids(qk.dtype))
    state = torch.get_rng_state()
    torch.manual_seed(3)
    out = ours(backend=backend, **options)(qk, v, rotary=sinusoids(qk.dtype))
    torch.testing.assert_close(out, split_heads(reference, H), rtol=1e-9, atol=1e-9)
    assert torch.equal(torch.get_rng_state(), state)


def run(attention: LSHAttention, qk: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Output and gradients under one seed, the loss being over real tokens."""
    torch.manual_seed(5)
    qk, v = qk.detach().requires_grad_(), v.detach().requires_grad_()
    out = attention(qk, v, mask, sinusoids(qk.dtype))
    out.square().sum().backward()
    assert qk.grad is not None
    assert v.grad is not None
    return out.detach(), qk.grad, v.grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "options",
    [{}, {"causal": False}, {"attend_across_buckets": False}, {"allow_duplicate_attention": False}],
    ids=lambda options: "-".join(options) or "none",
)
def test_padding_changes_no_real_token(backend: Any, dtype: torch.dtype, options: dict[str, Any]) -> None:
    lengths = [T, 1, 15, 16, 17, 32, 33, 64, 65, 0]
    attention = ours(backend=backend, **options)
    qk, v = (x.detach() for x in inputs(dtype, len(lengths)))
    mask_BT = torch.arange(T) < torch.tensor(lengths)[:, None]
    together = run(attention, qk, v, mask_BT)
    for b, length in enumerate(lengths[:-1]):
        alone = run(attention, qk[b : b + 1, :length], v[b : b + 1, :length], None)
        longer = run(
            attention, qk[b : b + 1, : length + 7], v[b : b + 1, : length + 7], mask_BT[b : b + 1, : length + 7]
        )
        for whole, row, padded_row in zip(together, alone, longer, strict=True):
            torch.testing.assert_close(whole[b, :length], row[0])
            torch.testing.assert_close(padded_row[0, :length], row[0])
            assert not whole[b, length:].any()
    assert all(x.isfinite().all() for x in together)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_may_stand_anywhere(backend: Any) -> None:
    qk, v = (x.detach() for x in inputs(num_rows=1))
    real_T = torch.rand(T) < 0.6
    torch.manual_seed(5)
    spread = ours(backend=backend)(qk, v, real_T[None])[:, real_T]
    torch.manual_seed(5)
    dense = ours(backend=backend)(qk[:, real_T], v[:, real_T])
    torch.testing.assert_close(spread, dense)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_second_pass_visits_the_same_keys(backend: Any, dropout: float) -> None:
    qk, v = (x.detach() for x in inputs())
    attention, hashes = ours(backend=backend, dropout=dropout), Hashes()
    torch.manual_seed(7)
    first = attention(qk, v, hashes=hashes)
    after = torch.get_rng_state()
    order = hashes.order
    torch.manual_seed(7)
    second = attention(qk * (1 + 1e-9 * torch.randn(qk.shape, generator=torch.Generator())), v, hashes=hashes)
    assert hashes.order is order
    assert torch.equal(torch.get_rng_state(), after)
    torch.testing.assert_close(first, second, rtol=1e-7, atol=1e-7)
    other = attention(qk, v)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}], ids=["fast", "reference"])
def test_dropout_acts_in_training_only(options: dict[str, Any]) -> None:
    qk, v = (x.detach() for x in inputs())
    hashes, _ = random_hashes(torch.full((B,), T))
    attention = ours(**options).eval()
    torch.testing.assert_close(attention(qk, v, hashes=hashes), ours()(qk, v, hashes=hashes))
    assert torch.equal(attention(qk, v, hashes=hashes), attention.train()(qk, v, hashes=hashes)) is not bool(options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"allow_duplicate_attention": False}], ids=["fast", "reference"])
def test_autocast_to_bfloat16_stays_close(backend: Any, options: dict[str, Any]) -> None:
    hashes, _ = random_hashes(LENGTHS)
    mask_BT = torch.arange(T) < LENGTHS[:, None]
    attention = ours(backend=backend, **options)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        qk, v = inputs(torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = attention(qk.to(dtype), v.to(dtype), mask_BT, sinusoids(torch.float32), hashes)
            assert out.dtype == dtype
            results.append((out.float(), *torch.autograd.grad(out.float().square().sum(), (qk, v))))
    for exact, rounded in zip(*results, strict=True):
        assert (exact - rounded).norm() < 0.02 * exact.norm()


class LargestResult(TorchDispatchMode):
    """Remembers the number of values of the largest tensor that any operator gave."""

    values = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor):
                self.values = max(self.values, x.untyped_storage().nbytes() // x.element_size())
        return result


def test_nothing_of_all_rounds_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsh_operators, "SLICE_VALUES", 2**12)
    qk, v = inputs()
    with LargestResult() as largest:
        ours(backend="operators", num_hashes=32)(qk, v).sum().backward()
    assert largest.values <= 2 * B * T * H * max(D, 32)
