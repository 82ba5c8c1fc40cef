"""The Reformer is reformer-pytorch's, with its traps closed."""

import itertools

import pytest
import torch
from reformer_pytorch import ReformerLM
from torch import Tensor

from reforge.models.reformer import ReformerBackbone, ReformerOptions, axial_shape

VOCAB, BLOCK = 50, 64
SMALL = {"d_model": 32, "depth": 2, "num_heads": 4, "bucket_size": 8, "num_hashes": 2}


def build(**options: object) -> ReformerBackbone:
    torch.manual_seed(0)
    return ReformerOptions(**{**SMALL, **options}).build(VOCAB, BLOCK)


def ids(num_tokens: int = BLOCK, batch: int = 3) -> Tensor:
    return torch.randint(5, VOCAB, (batch, num_tokens), generator=torch.Generator().manual_seed(1))


def run(model: torch.nn.Module, ids_BT: Tensor, **mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output at the real tokens and parameter gradients of one training pass, under one random state."""
    model.zero_grad()
    torch.manual_seed(7)
    out = model(ids_BT, **mask)
    for mask_BT in mask.values():
        out = out[mask_BT]
    (out * torch.linspace(-1, 1, out.shape[-1]).to(out)).sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


POSITIONS = {
    "axial": {"axial_position_emb": True, "axial_position_shape": (8, 8)},
    "absolute": {"absolute_position_emb": True},
    "fixed": {"fixed_position_emb": True},
    "rotary": {},
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("full_attn_thres", [0, BLOCK])
def test_equals_reformer_pytorch_whose_state_loads_both_ways(position: str, full_attn_thres: int) -> None:
    if position == "rotary" and full_attn_thres:
        pytest.skip("reformer-pytorch's exact attention ignores rotary positions; see test_exact_attention.py")
    ours = build(position=position, full_attn_thres=full_attn_thres)
    plain = ReformerLM(
        VOCAB, 32, 2, BLOCK, heads=4, dim_head=8, bucket_size=8, n_hashes=2, ff_chunks=100,
        full_attn_thres=full_attn_thres, return_embeddings=True, **POSITIONS[position],
    )  # fmt: skip
    plain.load_state_dict(ours.lm.state_dict())
    ours.lm.load_state_dict(plain.state_dict())
    ours, plain = ours.double(), plain.double()  # the 100 chunks of feed-forward add up in another order
    mask = torch.ones(3, BLOCK, dtype=torch.bool)
    mask[1, 40:] = False
    out, grads = run(ours, ids(), mask_BT=mask)
    expected, expected_grads = run(plain, ids(), input_mask=mask)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[f"lm.{name}"], grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_tokens", [1, 15, 16, 40, BLOCK])
def test_takes_any_length_up_to_the_block(num_tokens: int) -> None:
    assert build()(ids(num_tokens)).shape == (3, num_tokens, 32)


def test_padding_is_not_attended_to() -> None:
    model = build(full_attn_thres=BLOCK).eval()
    short = ids(40)
    padded = torch.nn.functional.pad(short, (0, BLOCK - 40), value=9)
    mask = torch.arange(BLOCK).expand(3, -1) < 40
    torch.testing.assert_close(model(padded, mask)[:, :40], model(short), rtol=1e-5, atol=1e-5)


def test_every_position_option_sees_word_order() -> None:
    for position, full_attn_thres in itertools.product(POSITIONS, [0, BLOCK]):
        model = build(position=position, full_attn_thres=full_attn_thres, init_std=1.0).eval()
        swapped = ids().clone()
        swapped[:, [3, 20]] = swapped[:, [20, 3]]
        torch.manual_seed(0)
        a = model(ids())
        torch.manual_seed(0)
        b = model(swapped)
        assert not torch.allclose(a[:, 3], b[:, 20], atol=1e-6), position


def relative_error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_reversible_recomputation_keeps_the_autocast_state() -> None:
    """With bf16, reversible gradients must be as near the plain bf16 ones as bf16 is to float32, and stay in bf16."""
    reversible, plain = build(full_attn_thres=BLOCK), build(full_attn_thres=BLOCK, reverse_thres=BLOCK)
    plain.load_state_dict(reversible.state_dict())
    seen: list[torch.dtype] = []
    attention = reversible.lm.reformer.layers.blocks[0].f.net.fn
    attention.toqk.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model_out = reversible(ids())
        plain_out = plain(ids())
    weights = torch.linspace(-1, 1, 32)
    (model_out.float() * weights).sum().backward()  # outside autocast, as the loop does
    (plain_out.float() * weights).sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]
    torch.testing.assert_close(model_out, plain_out)
    for (name, a), (_, b) in zip(reversible.named_parameters(), plain.named_parameters(), strict=True):
        assert relative_error(a.grad, b.grad) < 0.05, name


def test_reversible_equals_irreversible_in_float32_with_dropout() -> None:
    options = {"ff_dropout": 0.1, "lsh_dropout": 0.1}
    reversible, plain = build(**options), build(**options, reverse_thres=BLOCK)
    plain.load_state_dict(reversible.state_dict())
    out, grads = run(reversible, ids())
    expected, expected_grads = run(plain, ids())
    torch.testing.assert_close(out, expected)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=1e-4)


def test_spec_rules() -> None:
    assert [p.path for p in ReformerOptions(d_model=100, num_heads=8).problems()] == [("num_heads",)]
    assert [p.path for p in ReformerOptions(d_model=24, num_heads=8).problems()] == [("num_heads",)]
    assert [p.path for p in ReformerOptions(axial_position_shape=(8, 8)).problems()] == [("axial_position_shape",)]
    fit = lambda tokens, **o: [p.path for p in ReformerOptions(**o).fit(tokens)]  # noqa: E731
    assert fit(512) == []
    assert fit(500) == [("data", "block_tokens")]
    assert fit(512, axial_position_shape=(16, 16)) == [("model", "axial_position_shape")]


@pytest.mark.parametrize(("tokens", "shape"), [(512, (16, 32)), (64, (8, 8)), (128, (8, 16)), (65536, (256, 256))])
def test_default_axial_shape_fills_the_block(tokens: int, shape: tuple[int, int]) -> None:
    assert axial_shape(tokens) == shape
