"""Pre-training as one process of possibly several does it: build or resume, train, keep, export.

Prepared --build--> LoopState --train()--> StepReport --> metrics.jsonl, TensorBoard, progress
                        ^-- newest checkpoint    '--> checkpoints --> export
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from reforge.batches import Prepared, open_prepared
from reforge.loop import LoopState, StepReport, World, seed_everything
from reforge.loop.checkpoint import as_json
from reforge.models import BackboneOptions, count_parameters
from reforge.objectives import Objective, Sample
from reforge.runs.build import build_data, build_state, resolve_model
from reforge.runs.finished import keep_run
from reforge.runs.folder import RunFolder, storage_errors
from reforge.runs.job import PretrainJob
from reforge.runs.tracker import Observer, Tracking, run_training
from reforge.spec import render
from reforge.tracking import write_whole

NUM_SAMPLES = 3


@dataclass(frozen=True)
class PretrainResult:
    """A finished run's figures: validation metrics after the last step, samples, size and time."""

    step: int
    tokens_seen: int
    num_parameters: int
    metrics: dict[str, float]
    samples: list[Sample]
    seconds: float

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "PretrainResult":
        """What `asdict` and JSON made of a result."""
        return cls(**{**values, "samples": [Sample(**sample) for sample in values["samples"]]})


def pretrain(
    job: PretrainJob,
    run_folder: Path,
    prepared_folder: Path,
    device: torch.device,
    observe: Observer = lambda event: None,
    on_report: Callable[[StepReport], None] = lambda report: None,
) -> PretrainResult:
    """Train `job` to its end from where `run_folder` stands; every process of the world must call it.

    `observe` gets progress events on the first process ({"step": ...} or {"say": line}); `on_report` gets every report
    on every process. Raises UserError for what stops a run and trying again would not mend.
    """
    started = time.monotonic()
    world = World.current(device)
    prepared = world.on_all(lambda: open_prepared(prepared_folder, job.data, job.run.shard_cache))
    folder = RunFolder(run_folder)
    held: list[TextIO] = []  # kept open, and so locked, until this function ends
    world.on_first(lambda: held.append(folder.claim(job)))
    try:
        model, notes = resolve_model(job, prepared.tokenizer.get_vocab_size(), world)
        state = build_state(job, prepared, device, model)
        for note in notes if world.is_first else []:
            observe({"say": note})
        tracking = Tracking(
            folder=folder,
            title=render(job),
            log_every_steps=job.train.log_every_steps,
            checkpoint_every_steps=job.train.checkpoint_every_steps,
            keep_checkpoints=job.train.keep_checkpoints,
            observe=observe,
            on_report=on_report,
            panels=lambda board, step: board.text(step, "samples", as_markdown(draw_samples(state, prepared))),
        )
        data = build_data(prepared, job.train.eval_blocks)
        valid = run_training(state, data, job.train, job.optimizer, world, tracking)
        if not valid:  # killed after the last step: nothing was left to train
            valid = data.validate(state, job.train, world)
        seconds = time.monotonic() - started
        result = world.on_first(lambda: export(job, model, folder, prepared, state, valid, seconds))
    finally:
        for file in held:
            file.close()
    return result


def draw_samples(state: LoopState, prepared: Prepared) -> list[Sample]:
    """A few readable samples from validation blocks spread over the set, the same ones every time."""
    assert isinstance(state.model, Objective)
    num_blocks = len(prepared.valid)
    wanted = min(NUM_SAMPLES, num_blocks)
    indices = (2 * np.arange(wanted) + 1) * num_blocks // (2 * wanted)
    seed_everything(state.seed, "samples")
    state.model.eval()
    samples = state.model.samples(prepared.tokenizer, prepared.valid.blocks(indices))
    state.model.train()
    return samples


def as_markdown(samples: list[Sample]) -> str:
    """Samples as TensorBoard's text panel shows them."""
    return "\n\n---\n\n".join(f"{sample.text}\n\n**{sample.outcome}**" for sample in samples)


def export(
    job: PretrainJob,
    model: BackboneOptions,
    folder: RunFolder,
    prepared: Prepared,
    state: LoopState,
    valid: dict[str, float],
    seconds: float,
) -> PretrainResult:
    """Write the files that make the folder usable on its own, the result last.

    The model's options go in as they were decided here: elsewhere `auto` could mean another attention.
    """
    result = PretrainResult(
        step=state.step,
        tokens_seen=state.tokens_seen,
        num_parameters=count_parameters(state.model),
        metrics=valid,
        samples=draw_samples(state, prepared),
        seconds=seconds,
    )
    config = {
        "format": 1,
        "model": model.model_dump(mode="json"),
        "objective": job.objective.model_dump(mode="json"),
        "vocab_size": prepared.tokenizer.get_vocab_size(),
        "block_tokens": job.data.block_tokens,
    }
    with storage_errors(folder.path):
        keep_run(folder, state.model, prepared.tokenizer, config)
        write_whole(folder.result, as_json(asdict(result)))
    return result
