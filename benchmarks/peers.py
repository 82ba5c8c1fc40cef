"""The peers: one function each, from a workload and its data to a model, its loss and the products it needs.

A peer is configured as its own documentation does for training from scratch, at the workload's width, depth, heads and
feed-forward width, without dropout, in training mode, with the fastest setting that it offers in the open (scaled dot
product attention, ModernBERT's sparse prediction). A new peer is one function here and one line in `PEERS`.

Shapes: B blocks, T tokens, D d_model, V vocabulary, N targets.
"""

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from products import Products, exact_keys, lsh_keys, window_keys
from torch import Tensor, nn
from workload import Data, Workload

from reforge.objectives.masking import IGNORED

LSH_ABOVE_TOKENS = 512  # reformer-pytorch's exact attention keeps all scores, and is the faster up to about here


class Unavailable(Exception):
    """Why a contender cannot do a workload here."""


class Contender(NamedTuple):
    """A model, the mean loss of one step as a function without arguments, its products, and what it chose itself."""

    model: nn.Module
    loss: Callable[[], Tensor]
    products: Products
    note: str = ""


def mean_loss(logits_BTV: Tensor, data: Data, load: Workload) -> Tensor:
    """Cross-entropy over the targets from logits at every position, as training scripts write it."""
    labels_BT = data.labels_BT
    if load.work == "causal":
        logits_BTV, labels_BT = logits_BTV[:, :-1], labels_BT[:, 1:]
    return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED)


def reformer_pytorch(load: Workload, data: Data) -> Contender:
    """The library's `ReformerLM` with every default left as it is: LSH, reversible, rotary, 100 feed-forward chunks."""
    return _reformer_pytorch(load, data)


def reformer_pytorch_tuned(load: Workload, data: Data) -> Contender:
    """The same with its fastest options: one feed-forward chunk, no reversal, up to 512 tokens exact attention.

    Its exact attention does not see rotary positions, so the positions are learned ones there.
    """
    exact = load.block_tokens <= LSH_ABOVE_TOKENS
    fastest = {"ff_chunks": 1, "reverse_thres": load.block_tokens, "full_attn_thres": LSH_ABOVE_TOKENS}
    return _reformer_pytorch(load, data, exact, **fastest, absolute_position_emb=exact)


def _reformer_pytorch(load: Workload, data: Data, exact: bool = False, **options: Any) -> Contender:
    from reformer_pytorch import ReformerLM

    dim_head = 64  # the library's default, whatever the width
    model = ReformerLM(
        num_tokens=load.vocab_size,
        dim=load.d_model,
        depth=load.depth,
        max_seq_len=load.block_tokens,
        heads=load.num_heads,
        bucket_size=load.bucket_size,
        n_hashes=load.num_hashes,
        ff_mult=load.ff_mult,
        causal=load.work == "causal",
        **options,
    )
    products = Products(
        keys=[exact_keys(load) if exact else lsh_keys(load)] * load.depth,
        projections=3,
        attention_width=load.num_heads * dim_head,
        ff_width=load.ff_mult * load.d_model,
        head_inputs=load.d_model,
        hash_columns=0 if exact else load.num_hashes * load.block_tokens // load.bucket_size // 2,
    )
    return Contender(model, lambda: mean_loss(model(data.ids_BT), data, load), products)


def hf_reformer(load: Workload, data: Data) -> Contender:
    """transformers' Reformer with LSH in every layer, axial positions, reversible; buckets by its own rule."""
    hf = _transformers("ReformerForMaskedLM", "ReformerModelWithLMHead", "ReformerConfig")
    rows = next(r for r in range(math.isqrt(load.block_tokens), 0, -1) if load.block_tokens % r == 0)
    exponent = (2 * load.block_tokens // load.bucket_size).bit_length() - 1
    factors = [2**exponent]
    if factors[0] > 2 * load.bucket_size:
        factors = [2 ** (exponent // 2), 2 ** (exponent - exponent // 2)]
    causal = load.work == "causal"
    config = hf.ReformerConfig(
        vocab_size=load.vocab_size,
        hidden_size=load.d_model,
        attn_layers=["lsh"] * load.depth,
        num_attention_heads=load.num_heads,
        attention_head_size=load.d_model // load.num_heads,
        feed_forward_size=load.ff_mult * load.d_model,
        lsh_attn_chunk_length=load.bucket_size,
        num_hashes=load.num_hashes,
        num_buckets=factors if len(factors) > 1 else factors[0],
        axial_pos_shape=(rows, load.block_tokens // rows),
        axial_pos_embds_dim=(load.d_model // 4, load.d_model - load.d_model // 4),
        max_position_embeddings=load.block_tokens,
        hidden_dropout_prob=0.0,
        lsh_attention_probs_dropout_prob=0.0,
        is_decoder=causal,
        use_cache=False,
    )
    products = Products(
        keys=[lsh_keys(load)] * load.depth,
        projections=3,
        attention_width=load.d_model,
        ff_width=load.ff_mult * load.d_model,
        head_inputs=2 * load.d_model,  # its output layer reads both streams
        hash_columns=load.num_hashes * sum(factors) // 2,
    )
    return _hf(hf.ReformerModelWithLMHead(config) if causal else hf.ReformerForMaskedLM(config), data, products)


def hf_bert(load: Workload, data: Data) -> Contender:
    """transformers' BERT with scaled dot product attention; logits at every position, as it always does."""
    if load.work == "causal":
        raise Unavailable("reads both ways; hf-gpt2 is the model for causal work")
    hf = _transformers("BertForMaskedLM", "BertConfig")
    config = hf.BertConfig(
        vocab_size=load.vocab_size,
        hidden_size=load.d_model,
        num_hidden_layers=load.depth,
        num_attention_heads=load.num_heads,
        intermediate_size=load.ff_mult * load.d_model,
        max_position_embeddings=load.block_tokens,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return _hf(hf.BertForMaskedLM(config), data, _exact(load, head_matrices=1))


def hf_gpt2(load: Workload, data: Data) -> Contender:
    """transformers' GPT-2 with scaled dot product attention."""
    if load.work == "mlm":
        raise Unavailable("reads one way; hf-bert is the model for masked work")
    hf = _transformers("GPT2LMHeadModel", "GPT2Config")
    config = hf.GPT2Config(
        vocab_size=load.vocab_size,
        n_embd=load.d_model,
        n_layer=load.depth,
        n_head=load.num_heads,
        n_inner=load.ff_mult * load.d_model,
        n_positions=load.block_tokens,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return _hf(hf.GPT2LMHeadModel(config), data, _exact(load))


def hf_modernbert(load: Workload, data: Data) -> Contender:
    """transformers' ModernBERT (in causal work its decoder): every third layer sees the block, the others a window.

    Its feed-forward is gated: three matrices, of 2/3 the width (to a multiple of 64), so that it does as much work.
    """
    causal = load.work == "causal"
    name = "ModernBertDecoder" if causal else "ModernBert"
    head = "ForCausalLM" if causal else "ForMaskedLM"
    hf = _transformers(f"{name}Config", f"{name}{head}")
    ff_width = max(64, 64 * round(load.ff_mult * load.d_model * 2 / 3 / 64))
    config = getattr(hf, f"{name}Config")(
        vocab_size=load.vocab_size,
        hidden_size=load.d_model,
        num_hidden_layers=load.depth,
        num_attention_heads=load.num_heads,
        intermediate_size=ff_width,
        max_position_embeddings=load.block_tokens,
        **({"use_cache": False} if causal else {"sparse_prediction": True}),
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
        attn_implementation="sdpa",
    )
    half = config.local_attention // 2
    window = window_keys(load, half - 1, 0) if causal else window_keys(load, half, half)
    keys = [window if kind == "sliding_attention" else exact_keys(load) for kind in config.layer_types]
    products = Products(keys, 4, load.d_model, ff_width, load.d_model, ff_matrices=3, head_matrices=1)
    return _hf(getattr(hf, f"{name}{head}")(config), data, products)


def torch_encoder(load: Workload, data: Data) -> Contender:
    """torch.nn.TransformerEncoder, pre-norm, learned positions, an output layer at every position."""
    model = TorchLanguageModel(load)
    return Contender(model, lambda: mean_loss(model(data.ids_BT), data, load), _exact(load))


class TorchLanguageModel(nn.Module):
    """torch.nn.TransformerEncoder between embeddings and an output layer."""

    def __init__(self, load: Workload) -> None:
        super().__init__()
        self.causal = load.work == "causal"
        self.tokens = nn.Embedding(load.vocab_size, load.d_model)
        self.positions = nn.Embedding(load.block_tokens, load.d_model)
        layer = nn.TransformerEncoderLayer(
            load.d_model,
            load.num_heads,
            load.ff_mult * load.d_model,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(load.d_model)
        self.encoder = nn.TransformerEncoder(layer, load.depth, norm=norm, enable_nested_tensor=False)
        self.out = nn.Linear(load.d_model, load.vocab_size)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        num_tokens = ids_BT.shape[1]
        hidden_BTD = self.tokens(ids_BT) + self.positions.weight[:num_tokens]
        later_TT = None
        if self.causal:
            later_TT = nn.Transformer.generate_square_subsequent_mask(num_tokens, device=ids_BT.device)
        logits_BTV: Tensor = self.out(self.encoder(hidden_BTD, mask=later_TT, is_causal=self.causal))
        return logits_BTV


def _exact(load: Workload, head_matrices: int = 0) -> Products:
    keys = [exact_keys(load)] * load.depth
    return Products(keys, 4, load.d_model, load.ff_mult * load.d_model, load.d_model, head_matrices=head_matrices)


def _transformers(*names: str) -> Any:
    """The module transformers, where it is installed and has all of `names`."""
    if importlib.util.find_spec("transformers") is None:
        raise Unavailable("transformers is not installed (pip install '.[benchmarks]')")
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    missing = [name for name in names if not hasattr(transformers, name)]
    if missing:
        raise Unavailable(f"transformers {importlib.metadata.version('transformers')} has no {missing[0]}")
    return transformers


def _hf(model: nn.Module, data: Data, products: Products) -> Contender:
    """A transformers model, which computes its own mean loss."""

    def loss() -> Tensor:
        mean: Tensor = model(input_ids=data.ids_BT, labels=data.labels_BT).loss
        return mean

    return Contender(model, loss, products)


Build = Callable[[Workload, Data], Contender]

PEERS: dict[str, Build] = {
    "reformer-pytorch": reformer_pytorch,
    "reformer-pytorch-tuned": reformer_pytorch_tuned,
    "hf-reformer": hf_reformer,
    "hf-bert": hf_bert,
    "hf-gpt2": hf_gpt2,
    "hf-modernbert": hf_modernbert,
    "torch-encoder": torch_encoder,
}
