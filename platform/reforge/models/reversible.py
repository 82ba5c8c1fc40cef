"""Residual layers in two streams, and three ways to pay for their backward pass (Gomez et al. 2017).

    y1 = x1 + f(x2)    y2 = x2 + g(y1)        inverse:  x2 = y2 - g(y1)    x1 = y1 - f(x2)

keep        all activations are kept: fastest, memory grows with depth
checkpoint  only the inputs of every layer are kept, its inside is computed again (Chen et al. 2016): exact
reversible  nothing but the last output is kept, inputs are computed back from outputs: memory independent of depth

What is computed again runs under the random and autocast state of the first time, and with its hashes: rounding in an
input that was computed back must not move a token to another bucket. reformer-pytorch's own recomputation forgets
autocast. Shapes: B batch, T tokens, D d_model.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reforge.models.lsh_attention import Hashes

Memory = Literal["keep", "checkpoint", "reversible"]


class Layer(NamedTuple):
    """A layer's residual functions: attention `f(x, hashes=...)`, which notes its hashes there; feed-forward `g`.

    With `places_N=...` attention gives its output at these places of the flattened batch alone.
    """

    f: Callable[..., Tensor]
    g: Callable[[Tensor], Tensor]


def run_layers(
    layers: Sequence[Layer],
    x_BTD: Tensor,
    memory: Memory,
    chunk_tokens: int | None = None,
    places_N: Tensor | None = None,
    num_frozen: int = 0,
) -> Tensor:
    """The mean of both streams after all layers, both starting as `x_BTD`: [B, T, D], or [N, D] at `places_N`.

    chunk_tokens: how many tokens of each row go through `g` at once where it is computed again (None: all)
    places_N: places in the flattened batch; the last layer is computed there alone, and is kept
    num_frozen: how many of the lowest layers are not trained; where `x_BTD` is not either, nothing of them is kept
    """
    whole = layers if places_N is None else layers[:-1]
    split = 0 if x_BTD.requires_grad else num_frozen
    with torch.no_grad():
        x1, x2 = _run_streams(whole[:split], x_BTD, x_BTD, memory, chunk_tokens)
    x1, x2 = _run_streams(whole[split:], x1, x2, memory, chunk_tokens)
    if places_N is not None:
        last = layers[-1]
        x1 = x1.flatten(0, 1)[places_N] + last.f(x2, hashes={}, places_N=places_N)
        x2 = x2.flatten(0, 1)[places_N] + last.g(x1[None])[0]
    return (x1 + x2) / 2


def _run_streams(
    layers: Sequence[Layer], x1: Tensor, x2: Tensor, memory: Memory, chunk_tokens: int | None
) -> tuple[Tensor, Tensor]:
    if memory == "reversible" and layers and torch.is_grad_enabled():
        if not (x1.requires_grad or x2.requires_grad):
            x1 = x1.detach().requires_grad_()  # behind frozen layers: else autograd would not ask for the weights'
        y1, y2 = _Reversible.apply(x1, x2, list(layers), chunk_tokens)  # type: ignore[no-untyped-call]
        return y1, y2
    parts = chunk_tokens if memory == "reversible" else None
    for layer in layers:
        if memory == "checkpoint" and torch.is_grad_enabled():
            x1, x2 = checkpoint(_apply, layer, x1, x2, {}, use_reentrant=False)
        else:
            x1, x2 = _apply(layer, x1, x2, {}, parts)
    return x1, x2


def _apply(
    layer: Layer, x1: Tensor, x2: Tensor, hashes: dict[int, Hashes], chunk_tokens: int | None = None
) -> tuple[Tensor, Tensor]:
    x1 = x1 + layer.f(x2, hashes=hashes)
    return x1, _add_g(layer, x1, x2, chunk_tokens)


def _add_g(layer: Layer, x1: Tensor, x2: Tensor, chunk_tokens: int | None) -> Tensor:
    """x2 + g(x1), `chunk_tokens` of each row at a time."""
    parts = [part + layer.g(seen) for part, seen in zip(_cut(x2, chunk_tokens), _cut(x1, chunk_tokens), strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class _RandomState:
    """torch's random state, on the CPU and on the device, to be gone back to."""

    def __init__(self, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in self.devices)]

    def replay(self) -> None:
        """Set the random state to what it was; to be called inside `fork`."""
        torch.set_rng_state(self.states[0])
        for device, state in zip(self.devices, self.states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    def fork(self) -> AbstractContextManager[None]:
        """A context after which the random state is what it was before it."""
        return torch.random.fork_rng(devices=self.devices)


class _Note(NamedTuple):
    """What the backward pass must know of one layer's forward pass."""

    before_f: _RandomState
    before_g: _RandomState
    hashes: dict[int, Hashes]


class _Reversible(torch.autograd.Function):
    """All layers as one function of autograd; the gradients of their weights are added where they are used."""

    @staticmethod
    def forward(
        ctx: Any, x1: Tensor, x2: Tensor, layers: list[Layer], chunk_tokens: int | None
    ) -> tuple[Tensor, Tensor]:
        kind = x1.device.type
        ctx.autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        ctx.layers, ctx.chunk_tokens, ctx.notes = layers, chunk_tokens, []
        for layer in layers:
            hashes: dict[int, Hashes] = {}
            before_f = _RandomState(x1.device)
            x1 = x1 + layer.f(x2, hashes=hashes)
            before_g = _RandomState(x1.device)
            x2 = _add_g(layer, x1, x2, chunk_tokens)
            ctx.notes.append(_Note(before_f, before_g, hashes))
        ctx.save_for_backward(x1, x2)
        return x1, x2

    @staticmethod
    def backward(ctx: Any, d1: Tensor, d2: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y1, y2 = ctx.saved_tensors
        dtype, kind = ctx.autocast_dtype, y1.device.type
        # The cast cache must stay off: it would keep weights' casts of one layer alive across the whole backward pass.
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            for layer, note in zip(reversed(ctx.layers), reversed(ctx.notes), strict=True):
                x2, d1 = _undo_g(layer, note, y1, y2, d1, d2, ctx.chunk_tokens)
                y1, d2 = _undo_f(layer, note, x2, y1, d1, d2)
                y2 = x2
        return d1, d2, None, None


def _undo_g(
    layer: Layer, note: _Note, y1: Tensor, y2: Tensor, d1: Tensor, d2: Tensor, chunk_tokens: int | None
) -> tuple[Tensor, Tensor]:
    """x2 = y2 - g(y1) and the gradient of y1; a chunk at a time, so that only a chunk's inside is ever held."""
    cut = [_cut(t, chunk_tokens) for t in (y1, y2, d1, d2)]
    x2, dy1 = [], []
    with note.before_g.fork():
        note.before_g.replay()
        for y1_part, y2_part, d1_part, d2_part in zip(*cut, strict=True):
            g_part, grad = _again(layer.g, y1_part, d2_part)
            x2.append(y2_part - g_part)
            dy1.append(d1_part + grad)
    if len(x2) == 1:
        return x2[0], dy1[0]
    return torch.cat(x2, dim=1), torch.cat(dy1, dim=1)


def _undo_f(layer: Layer, note: _Note, x2: Tensor, y1: Tensor, d1: Tensor, d2: Tensor) -> tuple[Tensor, Tensor]:
    """x1 = y1 - f(x2) and the gradient of x2."""
    with note.before_f.fork():
        note.before_f.replay()
        f_x2, grad = _again(lambda x: layer.f(x, hashes=note.hashes), x2, d1)
    return y1 - f_x2, d2 + grad


def _again(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """`function(x)` and the gradient of `x`; the gradients of its weights are added to theirs."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
    torch.autograd.backward(y, gradient.to(y.dtype))
    assert x.grad is not None
    return y.detach(), x.grad


def _cut(x_BTD: Tensor, chunk_tokens: int | None) -> Sequence[Tensor]:
    return (x_BTD,) if chunk_tokens is None else torch.split(x_BTD, chunk_tokens, dim=1)
