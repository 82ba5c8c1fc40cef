"""The Reformer: LSH attention and reversible layers (Kitaev et al. 2020, https://arxiv.org/abs/2001.04451).

    ids -> embeddings + positions -> depth x (attention, feed-forward) in two streams -> mean -> norm -> hidden states

The parameters are reformer-pytorch's `ReformerLM`, under `lm` and by its names: its state_dict loads both ways. How
they are computed is ours: `shared_qk.py` the attention, `reversible.py` the layers. Options by the library's names mean
what they mean there, but safely: exact and local attention see rotary positions, `post_attn_dropout` acts,
feed-forward layers are cut by size and only where that saves memory (the library's default runs 100 small kernels a
layer), the width of a head is d_model / num_heads (the library: 64, whatever the width).

Shapes: B batch, T tokens, D d_model.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from reformer_pytorch import LSHSelfAttention, ReformerLM
from torch import Tensor, nn

from reforge.models import lsh_kernel
from reforge.models.backbone import (
    Activations,
    Backbone,
    BackboneOptions,
    Cache,
    Device,
    Frame,
    MicroStep,
    new_embedding,
)
from reforge.models.budget import decide_memory
from reforge.models.freezing import is_frozen
from reforge.models.reformer_memory import estimate_activations
from reforge.models.reversible import Layer, Memory, run_layers
from reforge.models.shared_qk import Attention, SharedQKAttention
from reforge.spec import Problem

# Up to which length exact attention is the faster, as a multiple of the keys that an LSH query visits
# (num_hashes x 2 x bucket_size). The CPU's is measured (docs/speed.md), the GPU's is a guess.
EXACT_UP_TO: dict[str, float] = {"cpu": 2.0, "cuda": 8.0}
# Where our kernel computes both, and all keys are visible.
EXACT_UP_TO_IN_KERNEL = 1.0
# A chunk of the feed-forward layers holds at most so many values: 16 MiB in float32.
FF_CHUNK_VALUES = 2**22
PKM_TOP_K = 32  # of the library's product-key memories; they need as many keys


class ReformerOptions(BackboneOptions):
    """Options of the Reformer, by reformer-pytorch's names where it has one.

    attention: exact | lsh, or auto: exact up to the length that was measured to be the faster, lsh above
    memory: keep | checkpoint | reversible (see reversible.py), or auto: keep where it fits, reversible where not
    ff_chunks: parts in which the reversible feed-forward layers are computed; auto cuts by size
    init_std: standard deviation of the embeddings at the start (the library's 1 drowns what the first layers add)
    """

    kind: Literal["reformer"] = "reformer"
    attention: Literal["auto", "exact", "lsh"] = "auto"
    memory: Literal["auto", "keep", "checkpoint", "reversible"] = "auto"
    dim_head: int | None = Field(None, ge=1)
    bucket_size: int = Field(64, ge=1)
    num_hashes: int = Field(4, ge=1)
    lsh_attend_across_buckets: bool = True
    lsh_allow_duplicate_attention: bool = True
    random_rotations_per_head: bool = False
    n_local_attn_heads: int = Field(0, ge=0)
    num_mem_kv: int = Field(0, ge=0)
    one_value_head: bool = False
    attn_chunks: int = Field(1, ge=1)
    ff_mult: int = Field(4, ge=1)
    ff_glu: bool = False
    ff_chunks: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    pkm_layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    pkm_num_keys: int = Field(128, ge=PKM_TOP_K)
    lsh_dropout: float = Field(0.0, ge=0, lt=1)
    post_attn_dropout: float = Field(0.0, ge=0, lt=1)
    ff_dropout: float = Field(0.0, ge=0, lt=1)
    layer_dropout: float = Field(0.0, ge=0, lt=1)
    weight_tie: bool = False
    use_scale_norm: bool = False
    use_rezero: bool = False
    position: Literal["rotary", "axial", "absolute", "sinusoidal"] = "rotary"
    axial_position_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    init_std: float = Field(0.02, gt=0)

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.dim_head or self.d_model // self.num_heads

    def problems(self) -> Iterator[Problem]:
        """Heads must divide the width; options must have the parts that they speak of."""
        if self.dim_head is None and self.d_model % self.num_heads:
            yield Problem(("num_heads",), f"must divide d_model ({self.d_model})", self.num_heads)
        elif self.position == "rotary" and self.head_width % 2:
            key = "num_heads" if self.dim_head is None else "dim_head"
            rule = f"rotary positions turn pairs of values: the width of a head must be even, not {self.head_width}"
            yield Problem((key,), rule, getattr(self, key))
        if self.position == "sinusoidal" and (self.emb_dim or self.d_model) % 2:
            key = "emb_dim" if self.emb_dim else "d_model"
            rule = "must be even: sinusoidal positions are pairs of sine and cosine"
            yield Problem((key,), rule, getattr(self, key))
        if self.axial_position_shape is not None and self.position != "axial":
            rule = f"belongs to position: axial, but position is {self.position}"
            yield Problem(("axial_position_shape",), rule, list(self.axial_position_shape))
        if self.n_local_attn_heads >= self.num_heads:
            rule = f"must leave a head of the {self.num_heads} (num_heads) that sees far"
            yield Problem(("n_local_attn_heads",), rule, self.n_local_attn_heads)
        if self.pkm_layers and max(self.pkm_layers) > self.depth:
            yield Problem(("pkm_layers",), f"layers are 1 to {self.depth} (depth)", list(self.pkm_layers))

    def fit(self, frame: Frame) -> Iterator[Problem]:
        """Blocks must fill the axial grid."""
        shape = self.axial_position_shape
        if shape is not None and math.prod(shape) != frame.block_tokens:
            rule = f"its product ({math.prod(shape)}) must be data.block_tokens ({frame.block_tokens})"
            yield Problem(("model", "axial_position_shape"), rule, list(shape))

    def build(self, frame: Frame) -> "ReformerBackbone":
        """A freshly initialised Reformer; `auto` that nobody resolved means the CPU's attention and memory: keep."""
        attention = self.choose_attention(frame, "cpu")[0] if self.attention == "auto" else self.attention
        memory: Memory = "keep" if self.memory == "auto" else self.memory
        return ReformerBackbone(self, frame, attention, memory)

    def scaled(self, ratio: float) -> Self:
        """The same at `ratio` of its width and heads; local heads leave one head that sees far."""
        smaller = super().scaled(ratio)
        num_local = min(round(self.n_local_attn_heads * ratio), smaller.num_heads - 1)
        return smaller.model_copy(update={"n_local_attn_heads": num_local})

    def with_dropout(self, p: float) -> Self:
        """`post_attn_dropout` and `ff_dropout` are p."""
        assert 0 <= p < 1, p
        return self.model_copy(update={"post_attn_dropout": p, "ff_dropout": p})

    def without_top(self, num_layers: int) -> Self:
        """The same without its upper layers; the memories in them go with them."""
        lower = super().without_top(num_layers)
        return lower.model_copy(update={"pkm_layers": tuple(n for n in self.pkm_layers if n <= lower.depth)})

    def choose_attention(self, frame: Frame, device_kind: str) -> tuple[Attention, str]:
        """The faster attention for blocks of this length on such a device, and why."""
        visited = self.num_hashes * 2 * self.bucket_size
        limit = int(EXACT_UP_TO.get(device_kind, EXACT_UP_TO["cpu"]) * visited)
        in_kernel = int(EXACT_UP_TO_IN_KERNEL * visited)
        undecided = device_kind == "cpu" and not frame.causal and in_kernel < frame.block_tokens <= limit
        if undecided and lsh_kernel.is_available():  # asked only where it decides: the first call builds it
            limit = in_kernel
        choice: Attention = "exact" if frame.block_tokens <= limit else "lsh"
        relation = "at most" if choice == "exact" else "more than"
        why = f"blocks of {frame.block_tokens:,} tokens are {relation} {limit:,}"
        where = f"up to which exact attention is the faster on {device_kind} (benchmarks/attention.py)"
        return choice, f"attention: {choice}, {why}, {where}"

    def resolve(self, frame: Frame, num_tokens: int, device: Device) -> tuple[Self, list[str]]:
        """Attention by the block's length, memory by what fits."""
        options, notes = self, []
        if self.attention == "auto":
            choice, note = self.choose_attention(frame, device.kind)
            options = options.model_copy(update={"attention": choice})
            notes.append(note)
        if self.memory == "auto":
            kept = options.model_copy(update={"memory": "keep"})
            num_bytes = kept.activation_bytes(num_tokens, frame, device.bytes_per_value)
            memory, note = decide_memory(num_bytes, device, "reversible")
            options = options.model_copy(update={"memory": memory})
            notes.append(note)
        return options, notes

    def activations(self, step: MicroStep) -> Activations:
        """Of the layers' operators, see reformer_memory.py."""
        return estimate_activations(self, step)

    def num_chunk_tokens(self, num_rows: int, row_tokens: int) -> int:
        """How many tokens of each row go through the feed-forward layers at once, where they are computed again."""
        if self.ff_chunks == "auto":
            return max(1, min(row_tokens, FF_CHUNK_VALUES // (num_rows * self.d_model * self.ff_mult)))
        return -(-row_tokens // self.ff_chunks)


class ReformerBackbone(Backbone):
    """reformer-pytorch's `ReformerLM` without its output layer; the parameters live under `lm`."""

    def __init__(self, options: ReformerOptions, frame: Frame, attention: Attention, memory: Memory) -> None:
        super().__init__()
        self.frame = frame
        self.d_model = options.d_model
        self.memory: Memory = memory
        self.options = options
        self.layer_dropout = options.layer_dropout
        self.regular_gradients = not options.layer_dropout and not (options.weight_tie and memory == "reversible")
        self.lm = library_model(options, frame)
        swap_attention(self.lm, options, frame, attention)
        self.segment_emb: nn.Embedding | None = None
        self._init_embeddings(options)

    def _init_embeddings(self, options: ReformerOptions) -> None:
        width = options.emb_dim or options.d_model
        nn.init.normal_(self.lm.token_emb.weight, std=options.init_std)
        for weight in self.lm.pos_emb.parameters():  # axial and absolute positions; others have none
            nn.init.normal_(weight, std=options.init_std)
        if self.frame.num_segments:
            self.segment_emb = new_embedding(self.frame.num_segments, width, options.init_std)

    @property
    def token_weight(self) -> Tensor:
        """The token embeddings [V, E]."""
        weight: Tensor = self.lm.token_emb.weight
        return weight

    @property
    def segment_weight(self) -> Tensor | None:
        """The segment embeddings, None where the frame has none."""
        return None if self.segment_emb is None else self.segment_emb.weight

    @property
    def top(self) -> nn.Module:
        """The final norm."""
        norm: nn.Module = self.lm.norm
        return norm

    def layer_modules(self) -> list[nn.Module]:
        """The layers, bottom first, attention and feed-forward each."""
        return list(self.lm.reformer.layers.blocks)

    def separate_layers(self) -> list[list[nn.Module]]:
        """Attention and feed-forward of each layer, but of reversible, dropped and tied ones."""
        if self.memory == "reversible" or self.layer_dropout or self.options.weight_tie:
            return []
        return [[block.get_submodule("f.net"), block.get_submodule("g.net")] for block in self.layer_modules()]

    def share_embeddings(self, other: Self) -> None:
        """Use the token, position and segment embeddings of `other` (equal E and frame) as one's own."""
        assert self.token_weight.shape == other.token_weight.shape
        self.lm.token_emb, self.lm.pos_emb = other.lm.token_emb, other.lm.pos_emb
        self.segment_emb = other.segment_emb

    def forward(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: Cache | None = None,
        places_N: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D], or [N, D] at the places; there is no incremental way, `cache` must be None."""
        assert cache is None, "the Reformer has no cache: new_cache() gives None"
        assert (segments_BT is None) == (self.segment_emb is None), "segment ids and segment embeddings go together"
        self.check_length(ids_BT.shape[1])
        embedded_BTE = self.lm.token_emb(ids_BT)
        # Positions are the same for every row: one row's are made and spread.
        embedded_BTE = embedded_BTE + self.lm.pos_emb(embedded_BTE[:1])
        if self.segment_emb is not None:
            embedded_BTE = embedded_BTE + self.segment_emb(segments_BT)
        x_BTD = self.lm.to_model_dim(embedded_BTE)
        hidden: Tensor = self.lm.norm(self._run(x_BTD, mask_BT, places_N))
        return hidden

    def dense_parts(self) -> list[nn.Module]:
        """The feed-forward layers with their norms."""
        return [block.get_submodule("g.net") for block in self.layer_modules()]

    def _run(self, x_BTD: Tensor, mask_BT: Tensor | None, places_N: Tensor | None) -> Tensor:
        blocks = self._blocks_of_this_pass()
        first = next(m for m in blocks[0].modules() if isinstance(m, SharedQKAttention))
        seen = first.look(x_BTD, mask_BT, self.lm.layer_pos_emb(x_BTD))
        layers = [
            Layer(partial(block.get_submodule("f.net"), seen=seen), block.get_submodule("g.net")) for block in blocks
        ]
        num_frozen = len(list(takewhile(is_frozen, blocks)))
        return run_layers(
            layers, x_BTD, self.memory, self.options.num_chunk_tokens(*x_BTD.shape[:2]), places_N, num_frozen
        )

    def _blocks_of_this_pass(self) -> list[nn.Module]:
        blocks = self.layer_modules()
        if not (self.training and self.layer_dropout):
            return blocks
        stays = (torch.rand(len(blocks)) >= self.layer_dropout).tolist()
        return [block for block, stay in zip(blocks, stays, strict=True) if stay] or blocks[:1]


def library_model(options: ReformerOptions, frame: Frame) -> ReformerLM:
    """reformer-pytorch's model with these options' parameters, freshly initialised."""
    shape = options.axial_position_shape or axial_shape(frame.block_tokens)
    return ReformerLM(
        num_tokens=frame.vocab_size,
        dim=options.d_model,
        emb_dim=options.emb_dim,
        depth=options.depth,
        max_seq_len=math.prod(shape) if options.position == "axial" else frame.block_tokens,
        heads=options.num_heads,
        dim_head=options.head_width,
        bucket_size=options.bucket_size,
        n_hashes=options.num_hashes,
        causal=frame.causal,
        weight_tie=options.weight_tie,
        ff_chunks=1,
        ff_mult=options.ff_mult,
        ff_glu=options.ff_glu,
        attn_chunks=options.attn_chunks,
        lsh_dropout=options.lsh_dropout,
        ff_dropout=options.ff_dropout,
        random_rotations_per_head=options.random_rotations_per_head,
        use_scale_norm=options.use_scale_norm,
        use_rezero=options.use_rezero,
        num_mem_kv=options.num_mem_kv,
        one_value_head=options.one_value_head,
        n_local_attn_heads=options.n_local_attn_heads,
        pkm_layers=options.pkm_layers,
        pkm_num_keys=options.pkm_num_keys,
        axial_position_emb=options.position == "axial",
        axial_position_shape=shape,
        absolute_position_emb=options.position == "absolute",
        fixed_position_emb=options.position == "sinusoidal",
        return_embeddings=True,
    )


def swap_attention(lm: ReformerLM, options: ReformerOptions, frame: Frame, attention: Attention) -> None:
    """Put our attention in the place of the library's, over the same parameters."""
    ours: dict[int, SharedQKAttention] = {}  # tied layers share one module
    for block in lm.reformer.layers.blocks:
        wrapper = block.f.net  # the norm, or ReZero, around the attention
        library = wrapper.fn
        if isinstance(library, LSHSelfAttention) and id(library) not in ours:
            ours[id(library)] = SharedQKAttention(
                library,
                attention,
                frame.block_tokens,
                options.post_attn_dropout,
                options.lsh_attend_across_buckets,
                options.lsh_allow_duplicate_attention,
            )
        wrapper.fn = ours.get(id(library), library)


def axial_shape(block_tokens: int) -> tuple[int, int]:
    """(rows, columns) of a grid for `block_tokens` positions: nearly square, the fewest positions too many.

    The exact factors of most lengths; a prime length gets a grid that is a little larger than a strip.
    """
    side = math.isqrt(block_tokens - 1) + 1
    rows = min(range(max(1, side // 4), side + 1), key=lambda r: (-(-block_tokens // r) * r - block_tokens, side - r))
    return rows, -(-block_tokens // rows)
