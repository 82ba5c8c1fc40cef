"""Our own contenders, built as a job builds them: from options, with every `auto` resolved for the device."""

from typing import Any

import torch
from peers import Build, Contender, Unavailable
from products import Products, exact_keys, lsh_keys
from timing import free_bytes
from torch import Tensor
from workload import SEED, Data, Workload

from reforge.models import BACKBONES, Device
from reforge.objectives import OBJECTIVES
from reforge.tokenizers import Vocabulary


def build(kind: str, load: Workload, data: Data, **options: Any) -> Contender:
    """The backbone `kind` with the objective of the workload, at the workload's size."""
    for name, registry in ((kind, BACKBONES), (load.work, OBJECTIVES)):
        if name not in registry:
            raise Unavailable(f"this version of reforge has no {name}")
    size = {"d_model": load.d_model, "depth": load.depth, "num_heads": load.num_heads, "ff_mult": load.ff_mult}
    objective = OBJECTIVES[load.work].model_validate({})
    frame = objective.frame(load.vocab_size, load.block_tokens)
    place = data.ids_BT.device
    device = Device(place.type, free_bytes(place), load.dtype.itemsize)
    resolved, _ = BACKBONES[kind].model_validate({**size, **options}).resolve(frame, load.num_tokens, device)
    model = objective.build(resolved, Vocabulary.plain(load.vocab_size), load.block_tokens)
    inputs = model.collate(data.batch, SEED).to(place)
    assert sum(inputs.num_targets.values()) == load.num_targets

    def loss() -> Tensor:
        losses = model(**inputs.tensors).losses
        return torch.stack([losses[term] * (w / inputs.num_targets[term]) for term, w in model.terms.items()]).sum()

    chosen = resolved.model_dump()
    note = ", ".join(f"{name} {chosen[name]}" for name in ("attention", "memory") if name in chosen)
    return Contender(model, loss, products(kind, load, chosen.get("attention") == "lsh"), note)


def products(kind: str, load: Workload, lsh: bool) -> Products:
    """The Reformer shares queries and keys: three projections where the Transformer has four."""
    return Products(
        keys=[lsh_keys(load) if lsh else exact_keys(load)] * load.depth,
        projections=3 if kind == "reformer" else 4,
        attention_width=load.d_model,
        ff_width=load.ff_mult * load.d_model,
        head_inputs=load.d_model,
        hash_columns=load.num_hashes * load.block_tokens // load.bucket_size // 2 if lsh else 0,
        last_at_targets=load.work == "mlm",
    )


def reforge_reformer(load: Workload, data: Data) -> Contender:
    """Our Reformer, attention and memory chosen by itself."""
    return build("reformer", load, data, bucket_size=load.bucket_size, num_hashes=load.num_hashes)


def reforge_reformer_reversible(load: Workload, data: Data) -> Contender:
    """Our Reformer with the least memory."""
    sizes = {"bucket_size": load.bucket_size, "num_hashes": load.num_hashes}
    return build("reformer", load, data, memory="reversible", **sizes)


def reforge_transformer(load: Workload, data: Data) -> Contender:
    """Our Transformer with exact attention, memory chosen by itself."""
    return build("transformer", load, data)


OURS: dict[str, Build] = {
    "reforge-reformer": reforge_reformer,
    "reforge-reformer-reversible": reforge_reformer_reversible,
    "reforge-transformer": reforge_transformer,
}
