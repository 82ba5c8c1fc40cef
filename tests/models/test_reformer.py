"""The Reformer is reformer-pytorch's, with its traps closed."""

from typing import Any

import pytest
import torch
from reformer_pytorch import ReformerLM
from torch import Tensor, nn

from reforge.models import Device, Frame, lsh_kernel
from reforge.models.reformer import ReformerBackbone, ReformerOptions, axial_shape

VOCAB, BLOCK = 50, 64
SMALL: dict[str, Any] = {"d_model": 32, "depth": 2, "num_heads": 4, "bucket_size": 8, "num_hashes": 2}
MEMORIES = ("keep", "checkpoint", "reversible")


def build(causal: bool = False, **options: Any) -> ReformerBackbone:
    torch.manual_seed(0)
    return ReformerOptions(**{**SMALL, **options}).build(Frame(VOCAB, BLOCK, causal))


def ids(num_tokens: int = BLOCK, batch: int = 3) -> Tensor:
    return torch.randint(5, VOCAB, (batch, num_tokens), generator=torch.Generator().manual_seed(1))


def run(model: nn.Module, ids_BT: Tensor, **mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output at the real tokens and parameter gradients of one training pass, under one random state."""
    model.zero_grad()
    torch.manual_seed(7)
    out = model(ids_BT, **mask)
    for mask_BT in mask.values():
        out = out[mask_BT]
    (out * torch.linspace(-1, 1, out.shape[-1]).to(out)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return out.detach(), gradients


def library(causal: bool = False, **options: Any) -> ReformerLM:
    return ReformerLM(
        VOCAB, 32, 2, BLOCK, heads=4, dim_head=8, bucket_size=8, n_hashes=2, ff_chunks=3, causal=causal,
        return_embeddings=True, **options,
    )  # fmt: skip


def check_against_the_library(ours: ReformerBackbone, plain: ReformerLM, **mask: Tensor) -> None:
    plain.load_state_dict(ours.lm.state_dict())
    ours.lm.load_state_dict(plain.state_dict())
    ours, plain = ours.double(), plain.double()
    out, grads = run(ours, ids(), **mask)
    expected, expected_grads = run(plain, ids(), **({"input_mask": mask["mask_BT"]} if mask else {}))
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    assert len(expected_grads) == len(grads)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[f"lm.{name}"], grad, rtol=1e-9, atol=1e-9)


POSITIONS: dict[str, dict[str, Any]] = {
    "axial": {"axial_position_emb": True, "axial_position_shape": (8, 8)},
    "absolute": {"absolute_position_emb": True},
    "sinusoidal": {"fixed_position_emb": True},
    "rotary": {},
}


# That the memories give the same of anything is the business of test_reversible.py.
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("position", "memory"), [*((name, "keep") for name in POSITIONS), *(("axial", name) for name in MEMORIES[1:])]
)
def test_lsh_equals_reformer_pytorch_whose_state_loads_both_ways(position: str, causal: bool, memory: str) -> None:
    ours = build(causal, position=position, attention="lsh", memory=memory)
    check_against_the_library(ours, library(causal, **POSITIONS[position]))


@pytest.mark.parametrize("position", ["axial", "absolute", "sinusoidal"])  # its exact attention ignores rotary ones
@pytest.mark.parametrize(("causal", "padded"), [(False, False), (False, True), (True, False), (True, True)])
def test_exact_equals_reformer_pytorch(position: str, causal: bool, padded: bool) -> None:
    ours = build(causal, position=position, attention="exact")
    mask = {"mask_BT": torch.arange(BLOCK).expand(3, -1) < torch.tensor([BLOCK, 40, 9])[:, None]} if padded else {}
    check_against_the_library(ours, library(causal, full_attn_thres=BLOCK, **POSITIONS[position]), **mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("options", [{}, {"n_local_attn_heads": 1}, {"attn_chunks": 2}, {"position": "axial"}], ids=str)
def test_the_cpus_kernel_gives_what_float64_gives(causal: bool, memory: str, options: dict[str, Any]) -> None:
    """Heads of 16: float32 goes through the kernel where there is a compiler, float64 never does."""
    fast, slow = (build(causal, attention="exact", memory=memory, num_heads=2, **options) for _ in range(2))
    mask = torch.arange(BLOCK).expand(3, -1) < torch.tensor([BLOCK, 40, 9])[:, None]
    out, gradients = run(fast, ids(), mask_BT=mask)
    expected, expected_gradients = run(slow.double(), ids(), mask_BT=mask)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name].double(), gradient, rtol=1e-3, atol=1e-3)


# Ours, and what the library calls it. It gives no way to the two lsh_ options; tests/models/test_lsh_attention.py.
LIBRARY_OPTIONS: dict[str, dict[str, Any]] = {
    "weight_tie": {"weight_tie": True},
    "one_value_head": {"one_value_head": True},
    "ff_glu": {"ff_glu": True},
    "use_scale_norm": {"use_scale_norm": True},
    "use_rezero": {"use_rezero": True},
    "pkm": {"pkm_layers": (2,), "pkm_num_keys": 32},
    "emb_dim": {"emb_dim": 12},
    "local": {"n_local_attn_heads": 2},
    "memories": {"num_mem_kv": 16},
    "per_head": {"random_rotations_per_head": True},
    "ff_mult": {"ff_mult": 2},
}


@pytest.mark.parametrize("option", LIBRARY_OPTIONS)
@pytest.mark.parametrize("attention", ["lsh", "exact"])
def test_the_librarys_options_are_the_librarys(option: str, attention: str) -> None:
    options = LIBRARY_OPTIONS[option]
    ours = build(position="absolute", attention=attention, **options)
    thres = 2 * BLOCK if attention == "exact" else 0
    plain = library(absolute_position_emb=True, full_attn_thres=thres, **options)
    if option == "use_rezero":  # it starts at zero, where nothing could differ
        for model in (ours.lm, plain):
            for name, parameter in model.named_parameters():
                if name.endswith(".g"):
                    nn.init.constant_(parameter, 0.5)
    check_against_the_library(ours, plain)


@pytest.mark.parametrize("attention", ["lsh", "exact"])
@pytest.mark.parametrize("options", [{}, {"n_local_attn_heads": 2}, {"position": "axial"}, {"weight_tie": True}])
def test_padding_changes_no_real_token(attention: str, options: dict[str, Any]) -> None:
    model = build(attention=attention, **options).eval()
    for length in (1, 7, 16, 33, BLOCK):
        short = ids(length)
        torch.manual_seed(2)
        alone = model(short)
        for longer in {min(length + 5, BLOCK), BLOCK}:
            padded = torch.nn.functional.pad(short, (0, longer - length), value=9)
            torch.manual_seed(2)
            hidden = model(padded, torch.arange(longer).expand(3, -1) < length)[:, :length]
            torch.testing.assert_close(hidden, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["lsh", "exact"])
def test_a_row_without_a_real_token_stays_finite(attention: str) -> None:
    mask = torch.ones(3, BLOCK, dtype=torch.bool)
    mask[1] = False
    model = build(attention=attention)
    out = model(ids(), mask)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("options", [{"attention": "lsh"}, {"attention": "exact"}, {"n_local_attn_heads": 3}])
def test_every_position_option_sees_word_order(position: str, options: dict[str, Any]) -> None:
    model = build(position=position, init_std=1.0, **options).eval()
    swapped = ids().clone()
    swapped[:, [3, 20]] = swapped[:, [20, 3]]
    torch.manual_seed(0)
    a = model(ids())
    torch.manual_seed(0)
    b = model(swapped)
    assert not torch.allclose(a[:, 3], b[:, 20], atol=1e-6)


@pytest.mark.parametrize("length", [0, BLOCK + 1])
def test_a_length_without_positions_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=f"takes 1 to {BLOCK} tokens .* got {length}"):
        build()(ids(length))


def test_dropout_after_the_attention_acts() -> None:
    model = build(post_attn_dropout=0.5, attention="exact")
    assert not torch.equal(model(ids()), model(ids()))


def test_dropped_layers_get_no_gradient_and_one_always_stays() -> None:
    model = build(layer_dropout=0.999)
    assert not model.regular_gradients
    _, gradients = run(model, ids())
    dropped = [name for name, _ in model.named_parameters() if name not in gradients]
    assert dropped
    assert all(".blocks.1." in name for name in dropped)
    assert model.eval()(ids()).isfinite().all()


def test_embeddings_are_shared_with_a_smaller_model() -> None:
    options = ReformerOptions(**SMALL, position="axial")
    frame = Frame(VOCAB, BLOCK, num_segments=2)
    large, small = options.build(frame), options.scaled(0.25).build(frame)
    small.share_embeddings(large)
    assert small.token_weight is large.token_weight
    assert small.d_model == 8
    segments = torch.zeros_like(ids())
    assert small(ids(), segments_BT=segments).shape == (3, BLOCK, 8)


def test_auto_says_what_it_chose_and_why() -> None:
    frame, options = Frame(VOCAB, 512), ReformerOptions(size="small")
    roomy, tight = Device("cpu", 2**40, 4), Device("cpu", 2**20, 4)
    chosen, notes = options.resolve(frame, 4096, roomy)
    assert (chosen.attention, chosen.memory) == ("exact", "keep")
    assert [note.split(",")[0] for note in notes] == ["attention: exact", "memory: keep"]
    chosen, _ = options.resolve(Frame(VOCAB, 65536), 65536, tight)
    assert (chosen.attention, chosen.memory) == ("lsh", "reversible")
    fixed = ReformerOptions(attention="lsh", memory="checkpoint")
    assert fixed.resolve(frame, 4096, roomy) == (fixed, [])


@pytest.mark.parametrize(
    ("block_tokens", "causal", "kernel", "choice"),
    [
        (512, False, True, "exact"),
        (513, False, True, "lsh"),
        (513, False, False, "exact"),
        (1024, True, True, "exact"),
        (1024, False, False, "exact"),
        (1025, True, False, "lsh"),
    ],
)
def test_auto_attention_follows_what_was_measured(
    block_tokens: int, causal: bool, kernel: bool, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsh_kernel, "is_available", lambda: kernel)
    chosen, _ = ReformerOptions().choose_attention(Frame(VOCAB, block_tokens, causal), "cpu")
    assert chosen == choice


def test_sizes_by_name() -> None:
    base = ReformerOptions(size="base")
    assert (base.depth, base.d_model, base.num_heads) == (12, 768, 12)
    assert ReformerOptions(size="base", depth=3).depth == 3
    assert ReformerOptions.model_validate_json(base.model_dump_json()) == base


def test_spec_rules() -> None:
    def paths(**options: Any) -> list[tuple[str | int, ...]]:
        return [p.path for p in ReformerOptions(**options).problems()]

    assert paths() == []
    assert paths(d_model=100, num_heads=8) == [("num_heads",)]
    assert paths(d_model=24, num_heads=8) == [("num_heads",)]
    assert paths(dim_head=7) == [("dim_head",)]
    assert paths(axial_position_shape=(8, 8)) == [("axial_position_shape",)]
    assert paths(position="sinusoidal", emb_dim=5) == [("emb_dim",)]
    assert paths(n_local_attn_heads=8) == [("n_local_attn_heads",)]
    assert paths(pkm_layers=(7,)) == [("pkm_layers",)]
    axial = ReformerOptions(position="axial", axial_position_shape=(16, 16))
    assert [p.path for p in axial.fit(Frame(VOCAB, 512))] == [("model", "axial_position_shape")]
    assert list(axial.fit(Frame(VOCAB, 256))) == []


@pytest.mark.parametrize(
    ("tokens", "shape"), [(512, (16, 32)), (64, (8, 8)), (128, (8, 16)), (65536, (256, 256)), (1021, (14, 73))]
)
def test_default_axial_shape_fits_the_block(tokens: int, shape: tuple[int, int]) -> None:
    assert axial_shape(tokens) == shape
