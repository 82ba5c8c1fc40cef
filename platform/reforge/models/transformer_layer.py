"""One pre-norm layer of the Transformer, and what decoding keeps of it (Vaswani et al. 2017, arxiv.org/abs/1706.03762).

    x = x + attention(norm(x));  x = x + feed_forward(norm(x))

Shapes: B batch, T tokens, S tokens seen (cached ones and the T), D d_model, H heads, K width of a head, W width of the
feed-forward network, L layers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reforge.models.backbone import Cache
from reforge.models.rotary import split_heads

Activation = Literal["gelu", "swiglu", "swish"]
Norm = Literal["layer_norm", "rms_norm"]


@dataclass(frozen=True)
class LayerShape:
    """What a layer is made of."""

    d_model: int
    num_heads: int
    ff_width: int
    activation: Activation
    norm: Norm
    bias: bool
    dropout: float
    attention_dropout: float


class KeyValueCache(Cache):
    """The keys and values of every layer, and which of them are padding; it carries no gradients.

    Room doubles when it is used up: a token costs the copy of about one other on average, not of all before it.
    """

    def __init__(self, num_layers: int, max_tokens: int) -> None:
        self.num_tokens = 0
        self.num_layers = num_layers
        self.max_tokens = max_tokens
        self.mask_BS: Tensor | None = None
        self._store: Tensor | None = None  # [L, 2, B, H, room, K]

    def select(self, rows_B: Tensor) -> None:
        """Keep the given rows of the batch, in the given order."""
        if self._store is not None:
            self._store = self._store.index_select(2, rows_B)
        if self.mask_BS is not None:
            self.mask_BS = self.mask_BS[rows_B]

    def join_mask(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor | None:
        """The mask [B, S] of what is cached and of the new tokens, None where all are real."""
        if mask_BT is None and self.mask_BS is None:
            return None
        old = self.mask_BS
        if old is None:
            old = torch.ones(len(ids_BT), self.num_tokens, dtype=torch.bool, device=ids_BT.device)
        new = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
        return torch.cat((old, new), dim=1)

    def extend(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Take up a layer's new keys and values; all of its keys and values so far, [B, H, S, K] each."""
        start, stop = self.num_tokens, self.num_tokens + k_BHTK.shape[2]
        store = self._room(stop, k_BHTK)
        store[layer, 0, :, :, start:stop] = k_BHTK
        store[layer, 1, :, :, start:stop] = v_BHTK
        return store[layer, 0, :, :, :stop], store[layer, 1, :, :, :stop]

    def _room(self, num_tokens: int, like_BHTK: Tensor) -> Tensor:
        """The store, with room for at least `num_tokens` tokens."""
        old = self._store
        if old is None or old.shape[4] < num_tokens:
            B, H, _, K = like_BHTK.shape
            room = min(self.max_tokens, max(2 * self.num_tokens, num_tokens, 64))
            self._store = like_BHTK.new_empty((self.num_layers, 2, B, H, room, K))
            if old is not None:
                self._store[..., : self.num_tokens, :] = old[..., : self.num_tokens, :]
        assert self._store is not None
        return self._store


@dataclass(frozen=True)
class Sight:
    """Who sees whom in one forward pass, the same in every layer.

    allowed: True where a query sees a key, broadcasting to [B, H, T, S]; None where nothing is hidden by it
    causal: queries see what is before them, and T = S
    turns_TP: how queries and keys are turned (rotary.py), None where positions are embedded
    """

    allowed: Tensor | None
    causal: bool
    turns_TP: Tensor | None
    cache: KeyValueCache | None


def allowed_keys(mask_BS: Tensor | None, causal: bool, num_new: int, num_seen: int, device: torch.device) -> Tensor:
    """`Sight.allowed`, [T, S], [B, 1, 1, S] or [B, 1, T, S], where some key is hidden from some query.

    A query that would see nothing sees everything: it is padding, and a softmax over nothing is not a number.
    """
    earlier = (
        torch.ones(num_new, num_seen, dtype=torch.bool, device=device).tril(num_seen - num_new) if causal else None
    )
    if mask_BS is None:
        assert earlier is not None, "an encoder without padding hides nothing"
        return earlier
    real = mask_BS[:, None, None, :]
    sees = real if earlier is None else earlier & real
    return sees | ~sees.any(dim=-1, keepdim=True)


class Attention(nn.Module):
    """Exact multi-head attention in torch's fused kernel."""

    def __init__(self, shape: LayerShape, index: int) -> None:
        super().__init__()
        self.index = index
        self.num_heads = shape.num_heads
        self.dropout = shape.attention_dropout
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model, bias=shape.bias)
        self.out = nn.Linear(shape.d_model, shape.d_model, bias=shape.bias)

    def forward(self, x_BTD: Tensor, sight: Sight, places_N: Tensor | None = None) -> Tensor:
        q, k, v = split_heads(self.qkv(x_BTD), self.num_heads, sight.turns_TP)
        if sight.cache is not None:
            k, v = sight.cache.extend(self.index, k, v)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTK = F.scaled_dot_product_attention(
            q, k, v, attn_mask=sight.allowed, dropout_p=dropout, is_causal=sight.causal
        )
        mixed: Tensor = self.out(at(mixed_BHTK.transpose(1, 2).flatten(2), places_N))
        return mixed


class FeedForward(nn.Module):
    """Two matrices around an activation; swiglu gates one half of the first's output by the other (Shazeer 2020)."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.activation = shape.activation
        num_inner = 2 if shape.activation == "swiglu" else 1
        self.inner = nn.Linear(shape.d_model, num_inner * shape.ff_width, bias=shape.bias)
        self.out = nn.Linear(shape.ff_width, shape.d_model, bias=shape.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = self.out(self._activate(self.inner(x_BTD)))
        return y_BTD

    def _activate(self, inner: Tensor) -> Tensor:
        if self.activation == "swiglu":
            gate, value = inner.chunk(2, dim=-1)
            return F.silu(gate) * value
        return F.gelu(inner) if self.activation == "gelu" else F.silu(inner)


class Layer(nn.Module):
    """Attention and feed-forward network, each behind a norm and added to what comes in."""

    def __init__(self, shape: LayerShape, index: int) -> None:
        super().__init__()
        self.attention_norm = new_norm(shape.norm, shape.d_model, shape.bias)
        self.attention = Attention(shape, index)
        self.feed_forward_norm = new_norm(shape.norm, shape.d_model, shape.bias)
        self.feed_forward = FeedForward(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor, sight: Sight, places_N: Tensor | None = None) -> Tensor:
        """[B, T, D], or [N, D] at places of the flattened batch, where nothing else is computed then."""
        mixed = self.attention(self.attention_norm(x_BTD), sight, places_N)
        x = at(x_BTD, places_N) + self.dropout(mixed)
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out


def at(x_BTD: Tensor, places_N: Tensor | None) -> Tensor:
    """`x` at places of the flattened batch [N, D]; all of it where none are given."""
    return x_BTD if places_N is None else x_BTD.flatten(0, 1)[places_N]


def new_norm(norm: Norm, width: int, bias: bool) -> nn.Module:
    """A layer norm, or RMS norm (Zhang & Sennrich 2019), which has no bias."""
    return nn.LayerNorm(width, bias=bias) if norm == "layer_norm" else nn.RMSNorm(width, eps=1e-5)
