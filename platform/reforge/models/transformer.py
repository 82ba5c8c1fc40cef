"""The Transformer with exact attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762): the baseline.

    ids --embeddings--> E --projection where E is not d_model--> D --pre-norm layers--> D --norm--> hidden states

An encoder, or a decoder where the frame is causal. Attention runs in torch's fused kernel, which keeps no scores.

Shapes: B batch, T tokens, S tokens seen (cached ones and the T), D d_model, E width of the embeddings.
"""

import math
from collections.abc import Iterator
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reforge.models.backbone import Activations, Backbone, BackboneOptions, Cache, Device, Frame, MicroStep
from reforge.models.budget import decide_memory
from reforge.models.embeddings import Embeddings, Position
from reforge.models.freezing import is_frozen
from reforge.models.rotary import rotation
from reforge.models.transformer_layer import (
    Activation,
    KeyValueCache,
    Layer,
    LayerShape,
    Norm,
    Sight,
    allowed_keys,
    new_norm,
)
from reforge.spec import Problem


class TransformerOptions(BackboneOptions):
    """Options of the Transformer.

    ff_mult: width of the feed-forward network in d_model; swiglu's is 2/3 of it, for as many parameters
    dropout: on the embeddings and on what each half of a layer adds; attention_dropout: on the attention weights
    memory: keep all activations, or checkpoint: only the input of each layer, and compute the rest a second time
    init_std: standard deviation of weights at the start; what a layer adds starts at 1 / sqrt(2 depth) of it (GPT-2)
    """

    kind: Literal["transformer"] = "transformer"
    ff_mult: float = Field(4.0, gt=0)
    activation: Activation = "gelu"
    norm: Norm = "layer_norm"
    position: Position = "rotary"
    dropout: float = Field(0.0, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    attention: Literal["auto", "exact"] = "auto"
    memory: Literal["auto", "keep", "checkpoint"] = "auto"
    init_std: float = Field(0.02, gt=0)
    bias: bool = True

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings."""
        return self.emb_dim or self.d_model

    @property
    def ff_width(self) -> int:
        """Width of the feed-forward network."""
        width = self.ff_mult * self.d_model
        return max(8, round(width * 2 / 3 / 8) * 8) if self.activation == "swiglu" else max(1, round(width))

    def problems(self) -> Iterator[Problem]:
        """Heads must divide the width; positions that go in pairs need even widths."""
        head_width = self.d_model // self.num_heads
        if self.d_model % self.num_heads:
            yield Problem(("num_heads",), f"must divide d_model ({self.d_model})", self.num_heads)
        elif self.position == "rotary" and head_width % 2:
            rule = f"rotary positions turn pairs of values: d_model / num_heads must be even, not {head_width}"
            yield Problem(("num_heads",), rule, self.num_heads)
        if self.position == "sinusoidal" and self.embedding_width % 2:
            key = "d_model" if self.emb_dim is None else "emb_dim"
            yield Problem(
                (key,), "must be even: sinusoidal positions are pairs of sine and cosine", self.embedding_width
            )

    def fit(self, frame: Frame) -> Iterator[Problem]:
        """It fits every frame."""
        yield from ()

    def build(self, frame: Frame) -> "TransformerBackbone":
        """A freshly initialised Transformer."""
        return TransformerBackbone(self, frame)

    def resolve(self, frame: Frame, num_tokens: int, device: Device) -> tuple[Self, list[str]]:
        """Exact attention; activations are kept where they fit in half of the device's memory."""
        options, notes = self, []
        if self.attention == "auto":
            options = options.model_copy(update={"attention": "exact"})
            notes.append("attention: exact, the only one that a transformer has")
        if self.memory == "auto":
            num_bytes = self.activation_bytes(num_tokens, frame, device.bytes_per_value)
            memory, note = decide_memory(num_bytes, device, "checkpoint")
            options = options.model_copy(update={"memory": memory})
            notes.append(note)
        return options, notes

    def activations(self, step: MicroStep) -> Activations:
        """What the layers' operators keep (counted with torch's hooks on saved tensors) and need in their backward."""
        residual, value, width = 4 * self.d_model, step.bytes_per_value, self.d_model * step.bytes_per_value
        inner = (4 if self.activation == "swiglu" else 2) * self.ff_width * value
        decomposed = residual if self.norm == "rms_norm" else 0
        dropped = residual if self.dropout else 0
        scores = 3 * self.num_heads * step.frame.block_tokens + 2 * self.d_model if self.attention_dropout else 0
        # The norm's input and output, queries, keys, values, what attention gave; then the feed-forward network's.
        attention = residual + 5 * width + decomposed + scores * max(4, value)
        feed_forward = residual + width + inner + decomposed + 2 * dropped
        kept, working = attention + feed_forward, inner // 2
        if self.memory == "checkpoint":
            kept, working = residual, kept - residual + working
        last, last_working = kept, working
        if step.num_places is not None:  # the last layer is kept however the others are
            share = step.num_places / step.num_tokens
            last = attention + int(share * (feed_forward + width))
            last_working = max(int(share * inner) // 2, residual + 4 * width - int(share * feed_forward))
        n = step.num_tokens
        return Activations(
            outside=n * (residual + dropped + decomposed),
            layer=n * kept,
            last=n * last,
            working=n * working,
            last_working=n * last_working,
            passing=n * (5 * residual + max(inner, 4 * width)),
        )

    def with_dropout(self, p: float) -> Self:
        """`dropout` is p."""
        assert 0 <= p < 1, p
        return self.model_copy(update={"dropout": p})

    def layer_shape(self) -> LayerShape:
        """What each layer is made of."""
        return LayerShape(
            self.d_model, self.num_heads, self.ff_width, self.activation, self.norm, self.bias,
            self.dropout, self.attention_dropout,
        )  # fmt: skip


class TransformerBackbone(Backbone):
    """A pre-norm Transformer of `TransformerOptions`."""

    def __init__(self, options: TransformerOptions, frame: Frame) -> None:
        super().__init__()
        self.frame = frame
        self.d_model = options.d_model
        self.checkpoints = options.memory == "checkpoint"
        self.keeps_random_state = bool(options.dropout or options.attention_dropout)
        self.rotary_width = options.d_model // options.num_heads if options.position == "rotary" else 0
        self.embeddings = Embeddings(frame, options.embedding_width, options.position, options.init_std)
        self.projection: nn.Module = nn.Identity()
        if options.embedding_width != options.d_model:
            self.projection = nn.Linear(options.embedding_width, options.d_model, bias=options.bias)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(Layer(options.layer_shape(), index) for index in range(options.depth))
        self.norm = new_norm(options.norm, options.d_model, options.bias)
        self._initialise(options)

    @torch.no_grad()
    def _initialise(self, options: TransformerOptions) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                std = options.init_std
                if module is self.projection:
                    std = options.embedding_width**-0.5  # what comes out is as large as what goes in
                elif name.endswith(".out"):
                    std /= math.sqrt(2 * options.depth)
                module.weight.normal_(std=std)
                if module.bias is not None:
                    module.bias.zero_()

    @property
    def token_weight(self) -> Tensor:
        """The token embeddings [V, E]."""
        return self.embeddings.tokens.weight

    @property
    def segment_weight(self) -> Tensor | None:
        """The segment embeddings, None where the frame has none."""
        return None if self.embeddings.segments is None else self.embeddings.segments.weight

    @property
    def top(self) -> nn.Module:
        """The final norm."""
        return self.norm

    def layer_modules(self) -> list[nn.Module]:
        """The layers, bottom first."""
        return list(self.layers)

    def separate_layers(self) -> list[list[nn.Module]]:
        """All layers."""
        return [[layer] for layer in self.layers]

    def share_embeddings(self, other: Self) -> None:
        """Use the embeddings of `other` as one's own."""
        mine, theirs = ({n: p.shape for n, p in b.embeddings.named_parameters()} for b in (self, other))
        assert mine == theirs, f"embeddings of one shape: {mine} and {theirs}"
        self.embeddings = other.embeddings

    def dense_parts(self) -> list[nn.Module]:
        """The feed-forward networks."""
        return [layer.get_submodule("feed_forward") for layer in self.layers]

    def new_cache(self) -> Cache | None:
        """An empty cache of keys and values where the frame is causal."""
        return KeyValueCache(len(self.layers), self.frame.block_tokens) if self.frame.causal else None

    def forward(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: Cache | None = None,
        places_N: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D], or [N, D] at the places; with a cache they carry no gradients.

        A causal pass is faster without a mask, and padding behind the real tokens needs none: they never see it.
        """
        assert cache is None or isinstance(cache, KeyValueCache), "the cache of another backbone"
        start, num_new = (0 if cache is None else cache.num_tokens), ids_BT.shape[1]
        self.check_length(start + num_new if num_new else 0)
        with torch.set_grad_enabled(torch.is_grad_enabled() and cache is None):
            mask_BS = mask_BT if cache is None else cache.join_mask(ids_BT, mask_BT)
            x_BTE = self.embeddings(ids_BT, mask_BS, segments_BT, start)
            x_BTD = self.dropout(self.projection(x_BTE))
            sight = self._sight(ids_BT, mask_BS, start, cache)
            *before, last = self.layers
            for layer in before:
                x_BTD = self._run_layer(layer, x_BTD, sight)
            x = self._run_layer(last, x_BTD, sight) if places_N is None else last(x_BTD, sight, places_N)
            hidden: Tensor = self.norm(x)
        if cache is not None:
            cache.num_tokens, cache.mask_BS = start + num_new, mask_BS
        return hidden

    def _sight(self, ids_BT: Tensor, mask_BS: Tensor | None, start: int, cache: KeyValueCache | None) -> Sight:
        causal, num_new, device = self.frame.causal, ids_BT.shape[1], ids_BT.device
        turns_TP = None
        if self.rotary_width:
            positions_T = torch.arange(start, start + num_new, device=device)
            turns_TP = rotation(positions_T, self.rotary_width, self.token_weight.dtype)
        if mask_BS is None and (not causal or num_new == 1 or not start):
            return Sight(None, causal and num_new > 1, turns_TP, cache)
        return Sight(allowed_keys(mask_BS, causal, num_new, start + num_new, device), False, turns_TP, cache)

    def _run_layer(self, layer: nn.Module, x_BTD: Tensor, sight: Sight) -> Tensor:
        learns = torch.is_grad_enabled() and (x_BTD.requires_grad or not is_frozen(layer))
        if self.checkpoints and learns:
            out_BTD: Tensor = checkpoint(
                layer, x_BTD, sight, use_reentrant=False, preserve_rng_state=self.keeps_random_state
            )
        else:
            out_BTD = layer(x_BTD, sight)
        return out_BTD
