"""Two real steps that leave no run behind: does it fit, and how fast is it?"""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch

from reforge.batches import open_prepared
from reforge.loop import Goal, LoopState, TaskData, World, resolve_precision, train
from reforge.loop.optimizer import OptimizerOptions
from reforge.loop.plan import Plan, TrainingData
from reforge.loop.sharding import notes as sharding_notes
from reforge.models import count_parameters
from reforge.runs.build import build_data, build_state, resolve_model
from reforge.runs.finetune import Setup, notes, set_up, start_state
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.memory_measure import MemoryMeter
from reforge.runs.memory_model import KnownRows, device_of, estimate
from reforge.tasks.answer_windows import DRAWN
from reforge.tasks.span_model import drawn_rows
from reforge.tasks.token_model import PLACES

NUM_STEPS = 2
NEVER = 2**62
# Of a fine-tuning, so many steps at most are looked at for the one with the most tokens.
STEPS_SEARCHED = 2000
ROWS_LOOKED_AT = 200


@dataclass(frozen=True)
class DryRun:
    """Sizes, memory of one worker in bytes (estimated from the spec, measured on the device) and speed of the job.

    rows: of a fine-tuning, what its sets say to the estimate
    """

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
    rows: KnownRows | None = None


def dry_run(job: PretrainJob, prepared_folder: Path, device: torch.device) -> DryRun:
    """Take two steps of `job`; every process of the world must call it. Nothing is written."""
    world = World.current(device)
    prepared = open_prepared(prepared_folder, job.data, job.run.shard_cache)
    vocab_size = prepared.tokenizer.get_vocab_size()
    meter = MemoryMeter(device)
    model, lines = resolve_model(job, vocab_size, world)
    state = build_state(job, prepared, device, model)
    data = build_data(prepared, job.train.eval_blocks)
    plan = job.train.model_copy(update={"eval_every_steps": NEVER, "max_steps": NEVER})
    run = two_steps(state, data, plan, job.optimizer, world, meter)
    estimated = estimate(job, device_of(job, world), world.size, vocab_size).total
    return replace(
        run,
        train_tokens=prepared.train.num_tokens,
        valid_tokens=prepared.valid.num_tokens,
        estimated_bytes=estimated,
        notes=(*lines, *sharding_notes(state.model)),
    )


def dry_run_finetune(job: FinetuneJob, device: torch.device) -> DryRun:
    """Take two steps of the first run of `job`, those with the most tokens; every process of the world must call it.

    Nothing is written.
    """
    world = World.current(device)
    _, job = job.members()[0]
    setup = set_up(job, world)
    meter = MemoryMeter(device)
    state, report = start_state(job, setup, device)
    num_steps = setup.train.steps_in_epoch(job.train.batch_size)
    plan = replace(job.train.plan(num_steps), eval_every_steps=NEVER, max_steps=NEVER)
    state.step = heaviest_step(setup, job, num_steps) - 1
    data = TaskData(setup.task, setup.train, setup.valid, Goal(*job.task.goal))
    run = two_steps(state, data, plan, job.optimizer, world, meter)
    rows = known_rows(setup)
    estimated = estimate(job, device_of(job, world), world.size, setup.tokenizer.get_vocab_size(), rows).total
    return replace(
        run,
        train_tokens=setup.train.num_tokens,
        valid_tokens=setup.valid.rows.num_tokens,
        estimated_bytes=estimated,
        notes=(*notes(setup, report), *sharding_notes(state.model)),
        rows=rows,
    )


def two_steps(
    state: LoopState, data: TrainingData, plan: Plan, optimizer: OptimizerOptions, world: World, meter: MemoryMeter
) -> DryRun:
    """Two steps of the loop, and what they took; the job's own figures are left at nothing."""
    reports = list(islice(train(state, data, plan, optimizer, world), NUM_STEPS))
    device = world.device
    return DryRun(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        precision=resolve_precision(plan.precision, device),
        num_parameters=count_parameters(state.model),
        train_tokens=0,
        valid_tokens=0,
        losses=tuple(report.loss for report in reports),
        tokens_per_second=reports[-1].tokens_per_second,
        estimated_bytes=0,
        measured_bytes=meter.peak(),
        notes=(),
    )


def heaviest_step(setup: Setup, job: FinetuneJob, num_steps: int) -> int:
    """The step with the most tokens of the first ones, not the very first: the optimizer has no averages before it."""
    steps = range(1, max(2, min(num_steps, STEPS_SEARCHED)))
    return max(steps, key=lambda step: trained_tokens(setup, job, step))


def trained_tokens(setup: Setup, job: FinetuneJob, step: int) -> int:
    """The tokens of a step, padding too, without rows that are not drawn for their epoch."""
    seed = job.train.seed
    rows = setup.train.rows_at(seed, step, job.train.batch_size)
    if DRAWN not in setup.train.row(0).extras:
        return rows.num_tokens
    return int(drawn_rows(setup.train.read(rows, seed), seed).sum()) * rows.row_tokens


def known_rows(setup: Setup) -> KnownRows:
    """What the sets say to the estimate of memory."""
    rows, share = setup.train, 1.0
    if setup.task.outputs.level == "token":
        longest = (rows.row(index) for index in range(max(0, len(rows) - ROWS_LOOKED_AT), len(rows)))
        share = max(len(row.extras[PLACES]) / len(row.ids) for row in longest)
    some = [rows.row(index) for index in range(0, len(rows), max(1, len(rows) // ROWS_LOOKED_AT))]
    drawn = fmean(float(row.extras.get(DRAWN, 1.0)) for row in some)
    return KnownRows(rows.block_tokens, share, drawn, setup.labels)
