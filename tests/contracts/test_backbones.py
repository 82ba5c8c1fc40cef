"""What every backbone must do; a new line in BACKBONES is tested here without a new test."""

import pytest
import torch

from reforge.models import BACKBONES, Backbone, Frame, count_parameters

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
