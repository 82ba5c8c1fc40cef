"""Validation: the same rows under the same masks every time, summed over all ranks before any division."""

import numpy as np
import torch

from reforge.batches import Samples
from reforge.loop.precision import Precision, autocast
from reforge.loop.state import seed_everything
from reforge.loop.world import World
from reforge.objectives import Objective, Totals
from reforge.spec import UserError

# Training epochs count from 0: masks of this epoch are never trained on.
VALIDATION_EPOCH = -1


def evaluation_blocks(samples: Samples, max_blocks: int | None) -> np.ndarray:
    """Indices of the rows that are scored: all, or `max_blocks` spread evenly over the set."""
    num_blocks = len(samples)
    if max_blocks is None or max_blocks >= num_blocks:
        return np.arange(num_blocks)
    return np.arange(max_blocks) * num_blocks // max_blocks


@torch.no_grad()
def evaluate(
    model: Objective,
    samples: Samples,
    *,
    world: World,
    precision: Precision,
    seed: int,
    tokens_per_byte: float,
    micro_batch_tokens: int,
    max_blocks: int | None = None,
) -> dict[str, float]:
    """Metrics of `model` on `samples`, the same on every rank; every rank must call it.

    A model that is sharded must be whole.
    """
    indices = evaluation_blocks(samples, max_blocks)
    names = list(model.terms)
    totals = torch.zeros(2 * len(names) + len(model.count_names), dtype=torch.float64, device=world.device)
    model.eval()
    for number, (start, rows) in enumerate(samples.parts(indices, VALIDATION_EPOCH, micro_batch_tokens)):
        if number % world.size != world.rank:
            continue
        # LSH hashes are random in evaluation too: tied to the place, the same weights give the same score.
        seed_everything(seed, "evaluate", start)
        inputs = model.collate(samples.read(rows, seed, model.needs_partners), seed).to(world.device)
        with autocast(precision, world.device):
            scores = model(**inputs.tensors)
        num_targets = torch.tensor([float(inputs.num_targets[name]) for name in names], device=world.device)
        sums = [scores.losses[name] for name in names] + [scores.counts[name] for name in model.count_names]
        totals += torch.cat([num_targets, torch.stack(sums).float()]).double()
    model.train()
    numbers = world.sum(totals).tolist()
    num_terms = len(names)
    summed = Totals(
        num_targets=dict(zip(names, numbers[:num_terms], strict=True)),
        losses=dict(zip(names, numbers[num_terms : 2 * num_terms], strict=True)),
        counts=dict(zip(model.count_names, numbers[2 * num_terms :], strict=True)),
    )
    if not any(summed.num_targets.values()):
        raise UserError("no validation block has a token to score: all of them are special tokens, such as [UNK]")
    return model.metrics(summed, tokens_per_byte)
