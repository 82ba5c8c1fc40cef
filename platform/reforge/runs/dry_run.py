"""Two real steps that leave no run behind: does it fit, and how fast is it?"""

import resource
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from reforge.batches import open_prepared
from reforge.loop import World, train
from reforge.loop.precision import resolve_precision
from reforge.models import BackboneOptions, count_parameters
from reforge.objectives.output import CHUNK_VALUES
from reforge.runs.build import build_data, build_state, resolve_model
from reforge.runs.job import PretrainJob

NUM_STEPS = 2


@dataclass(frozen=True)
class DryRun:
    """Sizes, memory of one worker in bytes (estimated from the spec, measured on the device) and speed of the job."""

    device: str
    precision: str
    num_parameters: int
    train_tokens: int
    valid_tokens: int
    losses: tuple[float, ...]
    tokens_per_second: float
    estimated_bytes: int
    measured_bytes: int
    notes: tuple[str, ...]


def dry_run(job: PretrainJob, prepared_folder: Path, device: torch.device) -> DryRun:
    """Take two steps of `job`; every process of the world must call it. Nothing is written."""
    world = World.current(device)
    prepared = open_prepared(prepared_folder, job.data, job.run.shard_cache)
    before = memory_peak(device)
    model, notes = resolve_model(job, prepared.tokenizer.get_vocab_size(), world)
    state = build_state(job, prepared, device, model)
    data = build_data(prepared, job.train.eval_blocks)
    reports = list(islice(train(state, data, job.train, job.optimizer, world), NUM_STEPS))
    num_parameters = count_parameters(state.model)
    precision = resolve_precision(job.train.precision, device)
    return DryRun(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        precision=precision,
        num_parameters=num_parameters,
        train_tokens=prepared.train.num_tokens,
        valid_tokens=prepared.valid.num_tokens,
        losses=tuple(report.loss for report in reports),
        tokens_per_second=reports[-1].tokens_per_second,
        estimated_bytes=estimate_bytes(
            job, model, num_parameters, prepared.tokenizer.get_vocab_size(), world.size, precision
        ),
        measured_bytes=memory_peak(device) - before,
        notes=tuple(notes),
    )


def estimate_bytes(
    job: PretrainJob, model: BackboneOptions, num_parameters: int, vocab_size: int, num_workers: int, precision: str
) -> int:
    """Training memory of one worker: weights, gradients, two AdamW averages, DDP's buckets, activations and logits."""
    num_tokens = job.micro_batch_tokens(num_workers)
    width = 2 if precision == "bf16" else 4
    copies = 4 + (1 if num_workers > 1 else 0)
    activations = model.activation_bytes(num_tokens, job.objective.frame(vocab_size, job.data.block_tokens), width)
    # Logits, their float32 copy, log-softmax and gradient; never more than a chunk of them.
    values = min(num_tokens * job.objective.target_share * vocab_size, CHUNK_VALUES)
    logits = int(values * (3 * 4 + (2 if precision == "bf16" else 0)))
    return num_parameters * 4 * copies + activations + logits


def memory_peak(device: torch.device) -> int:
    """Most bytes in use so far: on the GPU by torch's allocator, on the CPU by this process (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
