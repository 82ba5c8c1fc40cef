"""The Reformer: LSH attention and reversible layers (Kitaev et al. 2020, https://arxiv.org/abs/2001.04451).

The layers and their parameter names are reformer-pytorch's; this module chooses its options safely:

- `dim_head` is d_model / num_heads (the library's own default is 64 whatever the width);
- `ff_chunks` is 1 (the library's default of 100 runs 100 small kernels a layer);
- exact attention runs in torch's fused kernel and sees rotary positions, which the library's ignores;
- reversible recomputation keeps the autocast state (see `reversible.py`);
- sequences of any length are padded to what the buckets need, and masked.

Shapes: B batch, T tokens, D d_model.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from reformer_pytorch import LSHSelfAttention, ReformerLM
from torch import Tensor, nn

from reforge.models.backbone import Backbone, BackboneOptions
from reforge.models.exact_attention import ExactSharedQKAttention
from reforge.models.reversible import remember_autocast
from reforge.spec import Problem


class ReformerOptions(BackboneOptions):
    """Options of the Reformer encoder, by reformer-pytorch's names where it has one.

    `full_attn_thres`: blocks of at most this many tokens use exact instead of LSH attention. `reverse_thres`: blocks
    of at most this many tokens keep their activations instead of recomputing them (faster, more memory).
    `init_std`: standard deviation of the token and axial position embeddings at the start.
    """

    kind: Literal["reformer"] = "reformer"
    d_model: int = Field(512, ge=1)
    depth: int = Field(6, ge=1)
    num_heads: int = Field(8, ge=1)
    bucket_size: int = Field(64, ge=1)
    num_hashes: int = Field(4, ge=1)
    ff_mult: int = Field(4, ge=1)
    ff_chunks: int = Field(1, ge=1)
    attn_chunks: int = Field(1, ge=1)
    ff_dropout: float = Field(0.0, ge=0, lt=1)
    lsh_dropout: float = Field(0.0, ge=0, lt=1)
    position: Literal["rotary", "axial", "absolute", "fixed"] = "rotary"
    axial_position_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    full_attn_thres: int = Field(0, ge=0)
    reverse_thres: int = Field(0, ge=0)
    init_std: float = Field(0.02, gt=0)

    def problems(self) -> Iterator[Problem]:
        """Heads must divide the width; the axial shape belongs to axial positions."""
        width = self.d_model // self.num_heads
        if self.d_model % self.num_heads:
            yield Problem(("num_heads",), f"must divide d_model ({self.d_model})", self.num_heads)
        elif self.position == "rotary" and width % 2:
            rule = f"rotary positions turn pairs of values: d_model / num_heads must be even, not {width}"
            yield Problem(("num_heads",), rule, self.num_heads)
        if self.position == "fixed" and self.d_model % 2:
            yield Problem(("d_model",), "must be even: fixed positions are pairs of sine and cosine", self.d_model)
        if self.axial_position_shape is not None and self.position != "axial":
            rule = f"belongs to position: axial, but position is {self.position}"
            yield Problem(("axial_position_shape",), rule, list(self.axial_position_shape))

    def fit(self, block_tokens: int) -> Iterator[Problem]:
        """Blocks must split into pairs of buckets, fill the axial grid, and leave attention its positions."""
        if block_tokens % (2 * self.bucket_size):
            rule = f"must be a multiple of 2 x model.bucket_size ({2 * self.bucket_size})"
            yield Problem(("data", "block_tokens"), rule, block_tokens)
        shape = self.axial_position_shape
        if shape is not None and math.prod(shape) != block_tokens:
            rule = f"its product ({math.prod(shape)}) must be data.block_tokens ({block_tokens})"
            yield Problem(("model", "axial_position_shape"), rule, list(shape))

    def build(self, vocab_size: int, block_tokens: int) -> "ReformerBackbone":
        """A freshly initialised Reformer encoder."""
        return ReformerBackbone(self, vocab_size, block_tokens)

    def activation_bytes(self, num_tokens: int, block_tokens: int, bytes_per_value: int) -> int:
        """Estimate in bytes: the working set of one layer, of all layers where they are not reversible."""
        exact = block_tokens <= self.full_attn_thres
        # LSH attention keeps the scores, their softmax and its dropout; the fused exact kernel keeps none of them.
        scores = 0 if exact else 3 * self.num_heads * self.num_hashes * 2 * self.bucket_size
        # Both keep qk, v, and a round's sorted (or normalised) copies and outputs.
        rounds = 1 if exact else self.num_hashes
        attention = scores + (2 + 5 * rounds) * self.d_model
        feed_forward = 3 * self.ff_mult * self.d_model // self.ff_chunks
        num_layers = self.depth if block_tokens <= self.reverse_thres else 1
        per_token = num_layers * (attention / self.attn_chunks + feed_forward + 4 * self.d_model) + 4 * self.d_model
        return int(num_tokens * per_token * bytes_per_value)


class ReformerBackbone(Backbone):
    """reformer-pytorch's `ReformerLM` without its output layer; the parameters live under `lm`."""

    def __init__(self, options: ReformerOptions, vocab_size: int, block_tokens: int) -> None:
        super().__init__()
        self.d_model = options.d_model
        self.block_tokens = block_tokens
        self.pad_multiple = 2 * options.bucket_size
        self.lm = ReformerLM(
            num_tokens=vocab_size,
            dim=options.d_model,
            depth=options.depth,
            max_seq_len=block_tokens,
            heads=options.num_heads,
            dim_head=options.d_model // options.num_heads,
            bucket_size=options.bucket_size,
            n_hashes=options.num_hashes,
            ff_chunks=options.ff_chunks,
            ff_mult=options.ff_mult,
            attn_chunks=options.attn_chunks,
            ff_dropout=options.ff_dropout,
            lsh_dropout=options.lsh_dropout,
            full_attn_thres=options.full_attn_thres,
            reverse_thres=options.reverse_thres,
            axial_position_emb=options.position == "axial",
            axial_position_shape=options.axial_position_shape or axial_shape(block_tokens),
            absolute_position_emb=options.position == "absolute",
            fixed_position_emb=options.position == "fixed",
            return_embeddings=True,
        )
        for module in list(self.lm.modules()):
            if isinstance(module, LSHSelfAttention):
                module.full_attn = ExactSharedQKAttention(module.full_attn)
        remember_autocast(self.lm.reformer.layers)
        self._init_embeddings(options)

    def _init_embeddings(self, options: ReformerOptions) -> None:
        # The library starts embeddings at N(0, 1): they would drown what the first layers add to the residual stream.
        nn.init.normal_(self.lm.token_emb.weight, std=options.init_std)
        if options.position == "axial":
            for weight in self.lm.pos_emb.weights:
                nn.init.normal_(weight, std=options.init_std)
        elif options.position == "absolute":
            nn.init.normal_(self.lm.pos_emb.emb.weight, std=options.init_std)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, D]; pads to a multiple of two buckets and masks what it padded."""
        num_tokens = ids_BT.shape[1]
        padding = -num_tokens % self.pad_multiple
        if padding:
            if mask_BT is None:
                mask_BT = ids_BT.new_ones(ids_BT.shape).bool()
            ids_BT = F.pad(ids_BT, (0, padding))
            mask_BT = F.pad(mask_BT, (0, padding), value=False)
        kwargs = {} if mask_BT is None else {"input_mask": mask_BT}
        hidden_BTD: Tensor = self.lm(ids_BT, **kwargs)
        return hidden_BTD[:, :num_tokens]


def axial_shape(block_tokens: int) -> tuple[int, int]:
    """The most nearly square (rows, columns) whose product is `block_tokens`."""
    rows = next(r for r in range(math.isqrt(block_tokens), 0, -1) if block_tokens % r == 0)
    return rows, block_tokens // rows
