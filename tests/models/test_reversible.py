"""Three ways to pay for a backward pass give one gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor

from reforge.models import Frame
from reforge.models.reformer import ReformerBackbone, ReformerOptions

VOCAB, BLOCK = 50, 64
SMALL: dict[str, Any] = {"d_model": 32, "depth": 3, "num_heads": 4, "bucket_size": 8, "num_hashes": 2}
DROPOUT = {"ff_dropout": 0.1, "post_attn_dropout": 0.1}


def gradients(bf16: bool = False, double: bool = False, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and gradients of a training pass, under one random state."""
    torch.manual_seed(0)
    model: ReformerBackbone = ReformerOptions(**{**SMALL, **options}).build(Frame(VOCAB, BLOCK))
    if double:
        model = model.double()
    ids = torch.randint(5, VOCAB, (3, BLOCK))
    torch.manual_seed(7)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = model(ids)
    (out.double() * torch.linspace(-1, 1, 32, dtype=torch.float64)).sum().backward()  # outside autocast, as the loop
    return out.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
@pytest.mark.parametrize("attention", ["lsh", "exact"])
@pytest.mark.parametrize(
    "options",
    [{}, DROPOUT, {"lsh_dropout": 0.2}, {"weight_tie": True}, {"use_rezero": True}, {"layer_dropout": 0.4}],
    ids=lambda options: "-".join(options) or "plain",
)
def test_all_give_the_same_gradients(memory: str, attention: str, options: dict[str, Any]) -> None:
    out, grads = gradients(double=True, attention=attention, memory="keep", **options)
    again, others = gradients(double=True, attention=attention, memory=memory, ff_chunks=1, **options)
    torch.testing.assert_close(again, out, rtol=1e-9, atol=1e-9)
    assert others.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(others[name], grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ff_chunks", [3, 100, "auto"])
def test_feed_forward_in_parts_is_the_same(ff_chunks: int | str) -> None:
    _, grads = gradients(double=True, memory="keep")
    _, others = gradients(double=True, memory="reversible", ff_chunks=ff_chunks)
    for name, grad in grads.items():
        torch.testing.assert_close(others[name], grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
@pytest.mark.parametrize("attention", ["lsh", "exact"])
def test_recomputation_keeps_the_autocast_state(memory: str, attention: str) -> None:
    """Recomputed gradients in bf16 must be as near the plain bf16 ones as bf16 is to float32."""
    out, grads = gradients(bf16=True, attention=attention, memory="keep")
    again, others = gradients(bf16=True, attention=attention, memory=memory)
    torch.testing.assert_close(again, out)
    for name, grad in grads.items():
        assert float((others[name] - grad).norm() / grad.norm()) < 0.05, name


def test_recomputed_layers_run_in_bf16() -> None:
    torch.manual_seed(0)
    model = ReformerOptions(**SMALL, memory="reversible").build(Frame(VOCAB, BLOCK))
    seen: list[torch.dtype] = []
    attention = model.lm.reformer.layers.blocks[0].f.net.fn
    attention.toqk.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(torch.randint(5, VOCAB, (3, BLOCK)))
    out.float().sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]


def test_the_random_state_goes_on_as_if_nothing_was_computed_again() -> None:
    states = []
    for memory in ("keep", "reversible", "checkpoint"):
        gradients(memory=memory, attention="lsh", ff_chunks=1, **DROPOUT)
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_the_last_layer_at_places_alone_follows_reversible_ones() -> None:
    places_N = torch.tensor([3, 64, 100])
    results = []
    for memory, places in (("keep", None), ("reversible", places_N)):
        torch.manual_seed(0)
        model = ReformerOptions(**SMALL, memory=memory, attention="lsh").build(Frame(VOCAB, BLOCK)).double()
        ids = torch.randint(5, VOCAB, (3, BLOCK))
        torch.manual_seed(7)
        hidden = model(ids, places_N=places)
        hidden = hidden.flatten(0, 1)[places_N] if places is None else hidden
        (hidden * torch.linspace(-1, 1, 32)).sum().backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, rtol=1e-9, atol=1e-9)
