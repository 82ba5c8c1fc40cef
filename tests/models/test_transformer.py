"""The Transformer against a readable reference; what the fused kernel, the cache and checkpoints must not change."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reforge.models.backbone import Device, Frame, count_parameters
from reforge.models.transformer import TransformerBackbone, TransformerOptions

VOCAB, BLOCK = 50, 24
SMALL = {"d_model": 32, "depth": 2, "num_heads": 4, "init_std": 0.3}
POSITIONS = ["rotary", "absolute", "sinusoidal"]


def build(causal: bool = False, num_segments: int = 0, **options: object) -> TransformerBackbone:
    torch.manual_seed(0)
    model = TransformerOptions(**{**SMALL, **options}).build(Frame(VOCAB, BLOCK, causal, num_segments))
    with torch.no_grad():
        for parameter in model.parameters():  # biases start at 0 and norms at 1: wrong ones would not show
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def ids(num_tokens: int = BLOCK, batch: int = 3) -> Tensor:
    return torch.randint(0, VOCAB, (batch, num_tokens), generator=torch.Generator().manual_seed(1))


def norm(weights: dict[str, Tensor], name: str, x: Tensor, o: TransformerOptions) -> Tensor:
    if o.norm == "layer_norm":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]
    return x + weights.get(f"{name}.bias", 0)


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def turned(x: Tensor) -> Tensor:
    """`x` [T, K] turned by its position, one plane at a time."""
    columns = []
    for i in range(0, x.shape[1], 2):
        angle = torch.arange(len(x), dtype=x.dtype) / 10000 ** (i / x.shape[1])
        columns.append(x[:, i] * angle.cos() - x[:, i + 1] * angle.sin())
        columns.append(x[:, i + 1] * angle.cos() + x[:, i] * angle.sin())
    return torch.stack(columns, dim=1)


def attend(weights: dict[str, Tensor], name: str, x: Tensor, o: TransformerOptions, hidden: Tensor) -> Tensor:
    """Attention within one row `x` [T, D]; `hidden` [T, T] is True where a token must not look."""
    q, k, v = linear(weights, f"{name}.qkv", x).chunk(3, dim=1)
    heads = []
    for q_TK, k_TK, v_TK in zip(*(part.chunk(o.num_heads, dim=1) for part in (q, k, v)), strict=True):
        if o.position == "rotary":
            q_TK, k_TK = turned(q_TK), turned(k_TK)
        scores = (q_TK @ k_TK.T / math.sqrt(q_TK.shape[1])).masked_fill(hidden, -math.inf)
        heads.append(scores.softmax(dim=1) @ v_TK)
    return linear(weights, f"{name}.out", torch.cat(heads, dim=1))


def feed_forward(weights: dict[str, Tensor], name: str, x: Tensor, o: TransformerOptions) -> Tensor:
    inner = linear(weights, f"{name}.inner", x)
    if o.activation == "swiglu":
        gate, value = inner.chunk(2, dim=1)
        inner = gate * gate.sigmoid() * value
    elif o.activation == "swish":
        inner = inner * inner.sigmoid()
    else:
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    return linear(weights, f"{name}.out", inner)


def embed(weights: dict[str, Tensor], o: TransformerOptions, row_T: Tensor, segments_T: Tensor) -> Tensor:
    x, T = weights["embeddings.tokens.weight"][row_T], len(row_T)
    if o.position == "absolute":
        x = x + weights["embeddings.positions.weight"][:T]
    x = x + weights["embeddings.segments.weight"][segments_T]
    if o.position == "sinusoidal":
        width = x.shape[1]
        angles = torch.arange(T)[:, None] / 10000 ** (torch.arange(0, width, 2, dtype=x.dtype) / width)
        x = x * math.sqrt(width) + torch.cat((angles.sin(), angles.cos()), dim=1)
    return x


def run_layers(weights: dict[str, Tensor], o: TransformerOptions, x: Tensor, causal: bool) -> Tensor:
    """Hidden states [T, D] of one row without padding, whose embeddings are `x`."""
    if o.emb_dim:
        x = linear(weights, "projection", x)
    hidden = torch.ones(len(x), len(x)).triu(1).bool() & causal
    for i in range(o.depth):
        layer = f"layers.{i}"
        x = x + attend(weights, f"{layer}.attention", norm(weights, f"{layer}.attention_norm", x, o), o, hidden)
        x = x + feed_forward(weights, f"{layer}.feed_forward", norm(weights, f"{layer}.feed_forward_norm", x, o), o)
    return norm(weights, "norm", x, o)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padding", ["none", "after", "before"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"position": "absolute", "activation": "swish", "emb_dim": 12},
        {"position": "sinusoidal", "activation": "swiglu", "norm": "rms_norm", "bias": False},
    ],
    ids=lambda options: options.get("position", "rotary"),
)
def test_equals_the_formula(causal: bool, padding: str, options: dict[str, object]) -> None:
    model = build(causal, num_segments=2, **options).double()
    o, weights = TransformerOptions(**{**SMALL, **options}), dict(model.named_parameters())
    lengths = [BLOCK, 17, 1] if padding != "none" else [BLOCK] * 3
    mask = torch.arange(BLOCK).expand(3, -1) < torch.tensor(lengths)[:, None]
    mask = mask.flip(1) if padding == "before" else mask
    segments = (ids() > 20).long()
    embedded: list[Tensor] = []
    model.embeddings.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    out = model(ids(), None if padding == "none" else mask, segments)[mask]
    rows = [embed(weights, o, ids()[i][mask[i]], segments[i][mask[i]]) for i in range(3)]
    expected = torch.cat([run_layers(weights, o, row, causal) for row in rows])
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(expected)
    gradients = torch.autograd.grad((out * direction).sum(), [*embedded, *weights.values()])
    expected_gradients = torch.autograd.grad((expected * direction).sum(), [*rows, *weights.values()])
    torch.testing.assert_close(gradients[0][mask], torch.cat(expected_gradients[:3]), rtol=1e-9, atol=1e-9)
    for name, a, b in zip(weights, gradients[1:], expected_gradients[3:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("side", ["before", "after", "between"])
@pytest.mark.parametrize("position", POSITIONS)
def test_what_is_masked_is_not_seen(causal: bool, side: str, position: str) -> None:
    model = build(causal, position=position).eval()
    mask = {"after": torch.arange(BLOCK) < 15, "before": torch.arange(BLOCK) >= 9, "between": ids()[0] % 3 > 0}[side]
    other = torch.where(mask, ids(), (ids() + 7) % VOCAB)
    mask = mask.expand(3, -1)
    torch.testing.assert_close(model(ids(), mask)[mask], model(other, mask)[mask], rtol=0, atol=1e-6)


@pytest.mark.parametrize("position", POSITIONS)
def test_padding_in_front_or_behind_is_as_if_it_were_not_there(position: str) -> None:
    for causal in (False, True):
        model = build(causal, position=position).eval()
        expected = model(ids(15))
        places = torch.arange(BLOCK).expand(3, -1)
        after = model(F.pad(ids(15), (0, BLOCK - 15)), places < 15)[:, :15]
        before = model(F.pad(ids(15), (BLOCK - 15, 0)), places >= BLOCK - 15)[:, -15:]
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(before, expected, rtol=0, atol=1e-5)


def test_a_row_of_padding_alone_gives_finite_values_and_gradients() -> None:
    for causal in (False, True):
        model = build(causal)
        mask = torch.ones(3, BLOCK, dtype=torch.bool)
        mask[1] = False
        out = model(ids(), mask)
        assert out.isfinite().all()
        out.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        alone = model(ids()[[0, 2]], mask[[0, 2]])
        torch.testing.assert_close(out[[0, 2]], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_a_causal_token_does_not_see_what_is_after_it(masked: bool) -> None:
    model = build(causal=True).eval()
    mask = torch.ones(3, BLOCK, dtype=torch.bool) if masked else None
    changed = ids()
    changed[:, 10:] = (changed[:, 10:] + 1) % VOCAB
    a, b = model(ids(), mask), model(changed, mask)
    assert torch.equal(a[:, :10], b[:, :10])
    assert not torch.allclose(a[:, 10:], b[:, 10:], atol=1e-3)
    encoder = build(causal=False).eval()
    assert not torch.allclose(encoder(ids())[:, :10], encoder(changed)[:, :10], atol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_the_order_of_words_matters(causal: bool, position: str) -> None:
    model = build(causal, position=position).eval()
    swapped = ids()
    swapped[:, [3, 20]] = swapped[:, [20, 3]]
    assert not torch.allclose(model(ids())[:, 22], model(swapped)[:, 22], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("steps", [[9] + [1] * 15, [1] * 24, [5, 12, 1, 6]], ids=["prompt", "tokens", "pieces"])
def test_decoding_equals_the_whole_pass(
    padded: bool, position: str, dtype: torch.dtype, tolerance: float, steps: list[int]
) -> None:
    model = build(causal=True, position=position, init_std=0.1).to(dtype).eval()
    mask = torch.arange(BLOCK) >= torch.tensor([[0], [4], [7]]) if padded else torch.ones(3, BLOCK, dtype=torch.bool)
    cache = model.new_cache()
    parts, start = [], 0
    for num_tokens in steps:
        places = slice(start, start + num_tokens)
        # Only the prompt is padded: later on, nobody need say that tokens are real.
        part_mask = mask[:, places] if padded and start < 7 else None
        parts.append(model(ids()[:, places], part_mask, cache=cache))
        start += num_tokens
        assert cache.num_tokens == start
    got, expected = torch.cat(parts, dim=1)[mask], model(ids(), mask if padded else None)[mask]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_a_cache_grows_and_keeps_the_rows_that_are_selected() -> None:
    torch.manual_seed(0)
    options = TransformerOptions(**SMALL)
    model = options.build(Frame(VOCAB, 300, causal=True)).double().eval()
    words = torch.randint(0, VOCAB, (3, 300))
    mask = torch.arange(300) >= torch.tensor([[0], [4], [7]])
    cache = model.new_cache()
    model(words[:, :50], mask[:, :50], cache=cache)
    order = torch.tensor([2, 2, 0, 1])
    cache.select(order)
    parts = [model(words[order, i : i + 50], cache=cache) for i in range(50, 300, 50)]
    expected = model(words, mask)[order, 50:]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"1 to 300 tokens .* got 301"):
        model(words[order, :1], cache=cache)


def test_only_a_decoder_has_a_cache() -> None:
    assert build(causal=False).new_cache() is None
    empty = build(causal=True).new_cache()
    empty.select(torch.tensor([0]))
    assert empty.num_tokens == 0


def training_pass(model: TransformerBackbone, mask: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(7)
    out = model.train()(ids(), mask)
    return out, list(torch.autograd.grad((out * torch.linspace(-1, 1, 32)).sum(), list(model.parameters())))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [{}, {"dropout": 0.2}, {"attention_dropout": 0.2}])
def test_checkpoints_change_no_gradient(causal: bool, dropout: dict[str, float]) -> None:
    mask = torch.arange(BLOCK).expand(3, -1) < 20
    out, gradients = training_pass(build(causal, memory="keep", **dropout), mask)
    again, again_gradients = training_pass(build(causal, memory="checkpoint", **dropout), mask)
    assert torch.equal(out, again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again_gradients, strict=True))
    plain, _ = training_pass(build(causal), mask)
    assert torch.equal(plain, out) == (not dropout)


def kept_bytes(model: TransformerBackbone, words: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = model(words)
    assert out.requires_grad
    return sum(x.untyped_storage().nbytes() for x in kept.values())


@pytest.mark.parametrize(
    "options",
    [{}, {"activation": "swiglu"}, {"dropout": 0.1}, {"attention_dropout": 0.1}, {"position": "absolute"},
     {"norm": "rms_norm"}],
)  # fmt: skip
@pytest.mark.parametrize(("causal", "precise"), [(False, True), (True, False)])
def test_the_estimate_of_memory_is_near_what_is_kept(options: dict[str, object], causal: bool, precise: bool) -> None:
    frame = Frame(VOCAB, 128, causal)
    chosen = TransformerOptions(d_model=64, depth=3, num_heads=4, memory="keep", **options)
    words = torch.randint(0, VOCAB, (4, 128))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise):
        measured = kept_bytes(chosen.build(frame), words)
    cast_weights = 0 if precise else 2 * 3 * 12 * 64 * 64  # autocast keeps the weights in bfloat16 too
    estimate = chosen.activation_bytes(words.numel(), frame, 4 if precise else 2)
    assert 0.8 < (measured - cast_weights) / estimate < 1.2


@pytest.mark.parametrize("num_tokens", [1, 2, 7, BLOCK])
def test_takes_any_length_up_to_the_block(num_tokens: int) -> None:
    for causal in (False, True):
        out = build(causal)(ids(num_tokens))
        assert out.shape == (3, num_tokens, 32)
        assert out.isfinite().all()


@pytest.mark.parametrize("num_tokens", [0, BLOCK + 1])
def test_says_how_many_tokens_it_takes(num_tokens: int) -> None:
    with pytest.raises(ValueError, match=rf"takes 1 to {BLOCK} tokens .* got {num_tokens}"):
        build()(ids(num_tokens))


def test_sizes_have_names() -> None:
    tiny = TransformerOptions(size="tiny")
    assert (tiny.depth, tiny.d_model, tiny.num_heads) == (2, 128, 2)
    assert TransformerOptions(size="tiny", depth=3).depth == 3
    frame = Frame(VOCAB, BLOCK)
    plain, gated = (TransformerOptions(size="small", activation=a).build(frame) for a in ("gelu", "swiglu"))
    assert count_parameters(gated) == pytest.approx(count_parameters(plain), rel=0.01)
    assert plain.embeddings.positions is None


def test_a_scaled_generator_shares_the_embeddings() -> None:
    options = TransformerOptions(**SMALL, position="absolute")
    frame = Frame(VOCAB, BLOCK, num_segments=2)
    model, generator = options.build(frame), options.scaled(0.25).build(frame)
    assert (generator.d_model, generator.token_weight.shape) == (8, (VOCAB, 32))
    generator.share_embeddings(model)
    assert generator.token_weight is model.token_weight
    generator(ids(), segments_BT=torch.ones_like(ids())).square().sum().backward()
    assert all(p.grad is not None for p in generator.parameters())
    assert all(p.grad is not None for p in model.embeddings.parameters())
    shared = count_parameters(torch.nn.ModuleList([model, generator]))
    embedded = count_parameters(model.embeddings)
    assert shared == count_parameters(model) + count_parameters(generator) - embedded


def test_spec_rules() -> None:
    paths = lambda **options: [p.path for p in TransformerOptions(**options).problems()]  # noqa: E731
    assert paths() == []
    assert paths(d_model=100, num_heads=8) == [("num_heads",)]
    assert paths(d_model=24, num_heads=8) == [("num_heads",)]
    assert paths(d_model=24, num_heads=8, position="absolute") == []
    assert paths(d_model=27, num_heads=3, position="sinusoidal") == [("d_model",)]
    assert paths(d_model=27, num_heads=3, position="sinusoidal", emb_dim=8) == []
    assert paths(d_model=24, num_heads=3, position="sinusoidal", emb_dim=9) == [("emb_dim",)]
    assert list(TransformerOptions().fit(Frame(VOCAB, 1))) == []


def test_auto_is_resolved_and_says_why() -> None:
    frame, gib = Frame(VOCAB, 512), 2**30
    options = TransformerOptions()
    small, lines = options.resolve(frame, 2048, Device("cpu", 8 * gib, 4))
    assert (small.attention, small.memory) == ("exact", "keep")
    assert len(lines) == 2
    assert lines[1].startswith("memory: keep, 0.")
    assert lines[1].endswith("GiB of activations fit in half of 8.00 GiB")
    large, lines = options.resolve(frame, 2**20, Device("cuda", 80 * gib, 2))
    assert large.memory == "checkpoint"
    assert "do not fit in half of 80.00 GiB" in lines[1]
    assert large.activation_bytes(2**20, frame, 2) < small.activation_bytes(2**20, frame, 2) / 3
    assert small.resolve(frame, 2**20, Device("cuda", gib, 2)) == (small, [])
    assert large.build(frame).checkpoints
