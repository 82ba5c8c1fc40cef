"""Frozen lower layers change nothing above them, whatever the Reformer's attention, memory and options."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reforge.models import Frame, freeze, parameter_depths
from reforge.models.reformer import ReformerBackbone, ReformerOptions

VOCAB, BLOCK, DEPTH = 50, 64, 3
SMALL: dict[str, Any] = {"d_model": 32, "depth": DEPTH, "num_heads": 2, "bucket_size": 8, "num_hashes": 2}


def build(causal: bool = False, **options: Any) -> ReformerBackbone:
    torch.manual_seed(0)
    return ReformerOptions(**{**SMALL, **options}).build(Frame(VOCAB, BLOCK, causal))


def ids() -> Tensor:
    return torch.randint(5, VOCAB, (2, BLOCK), generator=torch.Generator().manual_seed(1))


def backward(model: nn.Module, trainable: Any, bf16: bool = False, seed: int = 7) -> dict[str, Tensor]:
    """Gradients of one training pass with so many trainable layers, under one random state."""
    freeze(model, trainable)
    model.zero_grad()
    torch.manual_seed(seed)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = model(ids())
    (out.double() * torch.linspace(-1, 1, 32, dtype=torch.float64)).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


MEMORIES = ("keep", "checkpoint", "reversible")
OPTIONS: dict[str, dict[str, Any]] = {
    "dropout in parts": {"attention": "exact", "ff_dropout": 0.2, "post_attn_dropout": 0.2, "ff_chunks": 3},
    "attention dropout": {"attention": "lsh", "lsh_dropout": 0.1, "n_local_attn_heads": 1},
    "tied": {"attention": "lsh", "weight_tie": True},
    "dropped layers": {"attention": "lsh", "layer_dropout": 0.5},
    "memories": {"attention": "lsh", "num_mem_kv": 4, "pkm_layers": (1, 3), "pkm_num_keys": 32},
}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("options", OPTIONS)
def test_what_still_trains_gets_the_gradients_it_had(memory: str, options: str) -> None:
    model = build(memory=memory, **OPTIONS[options]).double()
    expected = backward(model, "all")
    for trainable in (1, 2):
        gradients = backward(model, trainable)
        wants = {name for name, depth in parameter_depths(model).items() if depth > DEPTH - trainable}
        assert gradients.keys() == wants & expected.keys()  # dropped layers have none in either
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("attention", "causal"), [("lsh", False), ("lsh", True), ("exact", False), ("exact", True)])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_cpus_kernels_and_autocast_too(memory: str, attention: str, causal: bool, bf16: bool) -> None:
    """Heads and buckets of 16: float32 and bf16 go through the kernel where there is a compiler."""
    model = build(causal, memory=memory, attention=attention, bucket_size=16, weight_tie=True)
    expected = backward(model, "all", bf16)
    for name, gradient in backward(model, 2, bf16).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5)


def test_trainable_embeddings_below_frozen_layers_are_still_reached() -> None:
    """Not what `freeze` does, but what a user may: then the frozen layers pass gradients on."""
    for memory in MEMORIES:
        model = build(memory=memory, attention="exact").double()
        expected = backward(model, "all")["lm.token_emb.weight"]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("token_emb" in name)
        model.zero_grad()
        torch.manual_seed(7)
        (model(ids()) * torch.linspace(-1, 1, 32, dtype=torch.float64)).sum().backward()
        torch.testing.assert_close(model.token_weight.grad, expected, rtol=1e-9, atol=1e-9)
        assert sum(p.grad is not None for p in model.parameters()) == 1


def test_dropout_of_frozen_layers_stays_active() -> None:
    model = build(attention="exact", ff_dropout=0.5)
    freeze(model, 0)
    assert not torch.equal(model(ids()), model(ids()))
    model.eval()
    assert torch.equal(model(ids()), model(ids()))


def test_freezing_is_undone_by_all() -> None:
    model = build()
    freeze(model, 0)
    assert not any(p.requires_grad for p in model.parameters())
    freeze(model, "all")
    assert all(p.requires_grad for p in model.parameters())


def test_more_layers_than_there_are() -> None:
    with pytest.raises(AssertionError, match="4 of 3 layers"):
        freeze(build(), 4)
