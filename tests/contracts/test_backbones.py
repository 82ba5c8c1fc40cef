"""What every backbone must do; a new line in BACKBONES is tested here without a new test."""

from typing import Any, get_args

import pytest
import torch
from torch import nn

from reforge.models import (
    BACKBONES,
    Backbone,
    BackboneOptions,
    Frame,
    count_parameters,
    freeze,
    parameter_depths,
)

VOCAB, BLOCK = 40, 64
FRAME = Frame(VOCAB, BLOCK)
# What makes each backbone small; what is not named here keeps its default.
SMALL = {
    "reformer": {"d_model": 16, "depth": 2, "num_heads": 2, "bucket_size": 8, "num_hashes": 2},
    "transformer": {"d_model": 16, "depth": 2, "num_heads": 2, "init_std": 0.2},
}


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[request.param](**SMALL[request.param]).build(FRAME)


def ids(num_tokens: int = BLOCK, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, VOCAB, (2, num_tokens), generator=torch.Generator().manual_seed(seed))


def test_every_backbone_has_small_options_here() -> None:
    assert SMALL.keys() == BACKBONES.keys()


@pytest.mark.parametrize("num_tokens", [1, 7, 33, BLOCK])
def test_any_length_gives_one_hidden_state_a_token(backbone: Backbone, num_tokens: int) -> None:
    hidden = backbone(ids(num_tokens))
    assert hidden.shape == (2, num_tokens, backbone.d_model)
    assert hidden.isfinite().all()


def test_every_parameter_gets_a_gradient(backbone: Backbone) -> None:
    # DDP waits for every parameter: one that takes no part in the loss would stop it.
    (backbone(ids()) * torch.randn(backbone.d_model)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
    assert count_parameters(backbone) == sum(p.numel() for p in backbone.parameters())


def test_weights_are_a_function_of_the_random_state(backbone: Backbone, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["backbone"]
    torch.manual_seed(0)
    again = BACKBONES[kind](**SMALL[kind]).build(FRAME)
    for (name, p), (_, q) in zip(backbone.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(p, q), name


def test_the_order_of_words_is_seen(backbone: Backbone) -> None:
    backbone.eval()
    swapped = ids()
    swapped[:, [3, 20]] = swapped[:, [20, 3]]
    hidden = []
    for words in (ids(), swapped):
        torch.manual_seed(1)
        hidden.append(backbone(words)[:, 5])
    assert not torch.allclose(*hidden, rtol=1e-3, atol=1e-4)


def test_estimates_grow_with_the_batch(backbone: Backbone, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["backbone"]
    options = BACKBONES[kind](**SMALL[kind])
    one, two = (options.activation_bytes(num_tokens, FRAME, 4) for num_tokens in (BLOCK, 2 * BLOCK))
    assert 0 < one < two


MEMORIES = [{}, {"memory": "keep"}, {"memory": "checkpoint"}]


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("options", MEMORIES, ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_hidden_states_at_places_are_those_of_the_whole(kind: str, options: dict[str, str], padded: bool) -> None:
    torch.manual_seed(0)
    model = BACKBONES[kind](**{**SMALL[kind], **options}).build(FRAME).double()
    places_N = torch.tensor([0, 5, 63, 64, 70, 127, 5])
    mask_BT = torch.arange(BLOCK).expand(2, -1) < torch.tensor([[BLOCK], [BLOCK // 2]]) if padded else None
    if padded:
        places_N = places_N[:-2]
    weights = torch.randn(len(places_N), model.d_model, dtype=torch.float64)
    results = []
    for places in (None, places_N):
        model.zero_grad()
        torch.manual_seed(1)
        hidden = model(ids(), mask_BT, places_N=places)
        hidden = hidden.flatten(0, 1)[places_N] if places is None else hidden
        (hidden * weights).sum().backward()
        results.append((hidden.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (hidden, gradients), (others, other_gradients) = results
    torch.testing.assert_close(others, hidden, rtol=1e-9, atol=1e-9)
    for name, gradient in gradients.items():
        torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-9, atol=1e-9)


def choices(kind: str, option: str) -> list[str]:
    """What an option of a backbone may be, `auto` left out."""
    return [choice for choice in get_args(BACKBONES[kind].model_fields[option].annotation) if choice != "auto"]


MEMORY_OF_EACH = [(kind, memory) for kind in BACKBONES for memory in choices(kind, "memory")]
DEPTH = 3


def deep(kind: str, **options: Any) -> BackboneOptions:
    return BACKBONES[kind](**{**SMALL[kind], "depth": DEPTH, **options})


def test_every_parameter_lies_in_the_embeddings_in_one_layer_or_above_them(backbone: Backbone) -> None:
    depths = parameter_depths(backbone)
    assert list(depths) == [name for name, _ in backbone.named_parameters()]
    by_depth = [[name for name, depth in depths.items() if depth == wanted] for wanted in range(4)]
    embeddings, first, second, top = by_depth
    assert all("emb" in name for name in embeddings)
    assert len(first) == len(second) == len(list(backbone.layer_modules()[0].parameters()))
    assert {name.replace("0.", "1.", 1) for name in first} == set(second)
    assert all("norm" in name for name in top)


@pytest.mark.parametrize(("kind", "memory"), MEMORY_OF_EACH)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("at_places", [False, True])
def test_freezing_changes_neither_the_output_nor_other_gradients(
    kind: str, memory: str, causal: bool, at_places: bool
) -> None:
    options = deep(kind, memory=memory).with_dropout(0.2)
    torch.manual_seed(0)
    model = options.build(Frame(VOCAB, BLOCK, causal)).double()
    places_N = torch.tensor([0, 5, 63, 70, 127]) if at_places else None
    mask_BT = torch.arange(BLOCK).expand(2, -1) < torch.tensor([[BLOCK], [BLOCK // 2]])
    depths = parameter_depths(model)
    results = {}
    for trainable in ("all", 0, 1, 2, DEPTH):
        freeze(model, trainable)
        model.zero_grad()
        torch.manual_seed(1)
        hidden = model(ids(), mask_BT, places_N=places_N)
        assert hidden.requires_grad == (trainable != 0)
        if hidden.requires_grad:
            (hidden * torch.linspace(-1, 1, model.d_model)).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results[trainable] = hidden.detach(), gradients, torch.get_rng_state()
    expected, expected_gradients, random_state = results.pop("all")
    assert expected_gradients.keys() == depths.keys()
    for trainable, (hidden, gradients, state) in results.items():
        torch.testing.assert_close(hidden, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(state, random_state)
        trained = {name for name, depth in depths.items() if trainable and depth > DEPTH - trainable}
        assert gradients.keys() == trained
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "memory"), MEMORY_OF_EACH)
def test_nothing_of_frozen_layers_is_kept(kind: str, memory: str) -> None:
    kept = []
    for depth in (2, 4):
        model = deep(kind, memory=memory, depth=depth).with_dropout(0.1).build(FRAME)
        freeze(model, 1)
        tensors: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=tensors: to.append(t), lambda t: t):
            model(ids())
        kept.append([t.shape for t in tensors])
    assert kept[0] == kept[1]


@pytest.mark.parametrize("kind", BACKBONES)
def test_without_its_top_a_backbone_is_its_lower_layers(kind: str) -> None:
    options = deep(kind)
    whole = options.build(FRAME).double().eval()
    lower = options.without_top(1).build(FRAME).double().eval()
    tensors = whole.state_dict()
    lower.load_state_dict({name: tensors[name] for name in lower.state_dict()})
    with torch.no_grad():
        for parameter in whole.layer_modules()[-1].parameters():
            parameter.zero_()  # the layer now adds nothing to what comes in
    hidden = []
    for model in (whole, lower):
        torch.manual_seed(1)
        hidden.append(model(ids()))
    torch.testing.assert_close(*hidden, rtol=1e-12, atol=1e-12)
    assert options.without_top(0) == options
    with pytest.raises(AssertionError, match="3 of 3 layers"):
        options.without_top(DEPTH)


@pytest.mark.parametrize("kind", BACKBONES)
def test_dropout_is_set_everywhere_and_changes_no_tensor(kind: str) -> None:
    options = deep(kind)
    dropping = options.with_dropout(0.5)
    assert dropping.with_dropout(0.0) == options.with_dropout(0.0)
    torch.manual_seed(0)
    model = dropping.build(FRAME)
    for part in [model, *model.layer_modules()]:
        rates = [m.p for m in part.modules() if isinstance(m, nn.Dropout)]
        assert rates
        assert set(rates) == {0.5}
    model.load_state_dict(options.build(FRAME).state_dict())


@pytest.mark.parametrize("kind", BACKBONES)
def test_segments_that_start_at_zero_leave_a_backbone_as_it_was(kind: str) -> None:
    options = deep(kind)
    without = options.build(FRAME).eval()
    having = options.build(Frame(VOCAB, BLOCK, num_segments=2)).eval()
    assert without.segment_weight is None
    assert having.segment_weight is not None
    assert having.segment_weight.shape[0] == 2
    having.load_state_dict(without.state_dict(), strict=False)
    segments_BT = (torch.arange(BLOCK) > 30).long().expand(2, -1)
    hidden = []
    for reset in (False, True):
        if reset:
            having.reset_segments()
        torch.manual_seed(1)
        hidden.append(having(ids(), segments_BT=segments_BT))
    torch.manual_seed(1)
    expected = without(ids())
    assert not torch.allclose(hidden[0], expected, atol=1e-4)
    torch.testing.assert_close(hidden[1], expected, rtol=1e-6, atol=1e-6)
    having(ids(), segments_BT=segments_BT).square().sum().backward()
    gradient = having.segment_weight.grad
    assert gradient is not None
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("kind", BACKBONES)
def test_only_embedded_positions_tie_the_tensors_to_the_length_of_a_block(kind: str) -> None:
    for position in choices(kind, "position"):
        short, long = (
            {name: t.shape for name, t in deep(kind, position=position).build(Frame(VOCAB, n)).state_dict().items()}
            for n in (BLOCK, 2 * BLOCK)
        )
        assert short.keys() == long.keys()
        differ = [name for name in short if short[name] != long[name]]
        assert all("pos" in name for name in differ)
        assert bool(differ) == (position not in ("rotary", "sinusoidal")), position
