"""How much memory a micro-step of the Reformer takes, by attention and by what is kept of its layers.

What operators keep was counted with torch's hooks on saved tensors, what their backward passes need with its profiler:
widths are exact, what is needed for a moment is near. The operators of LSH on a GPU are those counted on a CPU without
the kernel, in larger slices; it was not measured there.
"""

from typing import TYPE_CHECKING, NamedTuple

from reforge.models import lsh_kernel
from reforge.models.backbone import Activations, MicroStep
from reforge.models.lsh_operators import SLICE_VALUES, SLICE_VALUES_GPU

if TYPE_CHECKING:
    from reforge.models.reformer import ReformerOptions

STREAM_BYTES = 4  # the residual streams stay in float32 under autocast


class Half(NamedTuple):
    """Bytes that half of a layer keeps, and what its backward pass needs on top."""

    kept: int
    working: int


def estimate_activations(options: "ReformerOptions", step: MicroStep) -> Activations:
    """The memory of one micro-step; `auto` attention counts as exact, `auto` memory as keep."""
    stream = step.num_tokens * options.d_model * STREAM_BYTES
    attention, whole = attention_half(options, step), feed_forward_half(options, step.num_tokens, step.bytes_per_value)
    kept, working = attention.kept + whole.kept, in_turn(attention, whole)
    if options.memory == "checkpoint":
        kept, working = 2 * stream, kept - stream + working
    elif options.memory == "reversible":
        kept, working = order_bytes(options, step), computed_back(options, step, stream)
    num_reversible = num_computed_back(options, step)
    last_kept, last_working, part = kept, working, whole
    if step.num_places is not None:  # the last layer is kept however the others are
        part = feed_forward_half(options, step.num_places, step.bytes_per_value)
        last_kept, last_working = attention.kept + part.kept, in_turn(attention, part)
    return Activations(
        outside=stream * (3 if num_reversible else 1),
        layer=kept,
        last=last_kept,
        working=working,
        last_working=last_working,
        passing=3 * stream + max(attention.kept, (part if options.depth == 1 else whole).kept),
    )


def num_computed_back(options: "ReformerOptions", step: MicroStep) -> int:
    """How many layers' inputs are computed back from their outputs."""
    num_trained = options.depth if step.num_trained is None else step.num_trained
    return max(0, num_trained - (step.num_places is not None)) if options.memory == "reversible" else 0


def in_turn(attention: Half, feed_forward: Half) -> int:
    """What a layer's backward pass needs: the feed-forward half goes first, what it kept is then free."""
    return max(feed_forward.working, attention.working - feed_forward.kept)


def computed_back(options: "ReformerOptions", step: MicroStep, stream: int) -> int:
    """What stands while the inputs of a layer are computed back, and the inside of one half of it.

    The gradients of both streams, the inputs computed back, a copy. Of a single such layer only the inputs: outputs
    and gradients are then those that came from above.
    """
    num_streams = 1 if num_computed_back(options, step) == 1 else 5
    row_tokens = min(step.frame.block_tokens, step.num_tokens)
    chunk_tokens = options.num_chunk_tokens(max(1, step.num_tokens // row_tokens), row_tokens)
    num_at_once = min(step.num_tokens, step.num_tokens * chunk_tokens // row_tokens)
    attention, part = attention_half(options, step), feed_forward_half(options, num_at_once, step.bytes_per_value)
    return num_streams * stream + max(attention.kept + attention.working - stream, part.kept + part.working)


def feed_forward_half(options: "ReformerOptions", num_tokens: int, value: int) -> Half:
    """Norm, first matrix and activation of the feed-forward layers."""
    stream, inner = options.d_model * STREAM_BYTES, options.ff_mult * options.d_model * value
    kept = stream + options.d_model * value + inner * (4 if options.ff_glu else 2)
    kept += (inner if options.ff_dropout else 0) + (stream if options.use_scale_norm else 0)
    return Half(num_tokens * kept, num_tokens * inner * (2 if options.ff_glu else 1))


def attention_half(options: "ReformerOptions", step: MicroStep) -> Half:
    """Norm, queries, values and output, and what computes the attention."""
    stream, width = options.d_model * STREAM_BYTES, options.d_model * step.bytes_per_value
    heads = options.num_heads * options.head_width * step.bytes_per_value
    kept = stream + width + 3 * heads
    kept += (width if options.post_attn_dropout else 0) + (stream if options.use_scale_norm else 0)
    inside = attention_inside(options, step)
    return Half(step.num_tokens * kept + inside.kept, step.num_tokens * (2 * stream + 2 * heads) + inside.working)


def attention_inside(options: "ReformerOptions", step: MicroStep) -> Half:
    """What attention keeps and needs beside queries, values and output."""
    if options.attention == "lsh":
        return lsh_inside(options, step)
    num_tokens, num_heads = step.num_tokens, options.num_heads
    if in_kernel(options, step.device_kind):
        return Half(4 * num_tokens * num_heads, 0)
    num_keys = step.frame.block_tokens + options.num_mem_kv
    weights = 12 * num_heads * num_keys if options.lsh_dropout and step.device_kind == "cpu" else 0
    keys = num_heads * options.head_width * step.bytes_per_value
    return Half(num_tokens * (keys + weights), 4 * num_tokens * num_keys)  # the second: a bias, where there is padding


def lsh_inside(options: "ReformerOptions", step: MicroStep) -> Half:
    """The order of every round, and the scores of a slice; of all rounds where lsh_reference.py computes them."""
    num_slots, bucket_size = step.num_tokens * options.num_heads, options.bucket_size
    if options.lsh_dropout or not options.lsh_attend_across_buckets or not options.lsh_allow_duplicate_attention:
        gathered = int(4 * num_slots * options.num_hashes * (17 * options.head_width + 10.5 * bucket_size))
        return Half(gathered, gathered // 8)
    orders = order_bytes(options, step)
    if in_kernel(options, step.device_kind):
        return Half(orders, 0)
    most = SLICE_VALUES_GPU if step.device_kind == "cuda" else SLICE_VALUES
    scores = min(most, num_slots * 2 * bucket_size)
    sliced = scores * (4 + 7 * options.head_width / bucket_size)
    return Half(orders, int(4 * (8 * num_slots * options.head_width + sliced)))


def order_bytes(options: "ReformerOptions", step: MicroStep) -> int:
    """The order of the tokens in each round, which every layer keeps however its inside is."""
    return 4 * step.num_tokens * options.num_heads * options.num_hashes if options.attention == "lsh" else 0


def in_kernel(options: "ReformerOptions", device_kind: str) -> bool:
    """Whether the CPU's kernel computes the attention, a compiler given."""
    whole = options.head_width % lsh_kernel.MULTIPLE == 0
    if options.attention == "lsh":
        whole = whole and options.bucket_size % lsh_kernel.MULTIPLE == 0
    return device_kind == "cpu" and whole and not (options.num_mem_kv or options.lsh_dropout)
