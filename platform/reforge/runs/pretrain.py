"""Pre-training as one process of possibly several does it: build or resume, train, keep, export.

Prepared --build--> LoopState --train()--> StepReport --> metrics.jsonl, TensorBoard, progress
                        ^-- newest checkpoint    '--> checkpoints --> export
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reforge.batches import Prepared, open_prepared
from reforge.loop import CorpusData, LoopState, StepReport, World, named_tensors, seed_everything
from reforge.loop.checkpoint import as_json
from reforge.loop.sharding import gather, whole
from reforge.loop.sharding import notes as sharding_notes
from reforge.models import BackboneOptions, count_parameters
from reforge.objectives import Objective, Sample
from reforge.runs.build import build_data, build_state, resolve_model
from reforge.runs.finished import keep_run
from reforge.runs.folder import RunFolder, parse_result, storage_errors
from reforge.runs.job import PretrainJob
from reforge.runs.tracker import Observer, Tracking, run_training
from reforge.runs.working_copy import held
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
        return parse_result(cls, values)


def pretrain(
    job: PretrainJob,
    run_folder: Path,
    prepared_folder: Path,
    device: torch.device,
    observe: Observer = lambda event: None,
    on_report: Callable[[StepReport], None] = lambda report: None,
    is_leaving: Callable[[], bool] = lambda: False,
    driver: str = "",
) -> PretrainResult:
    """Train `job` to its end from where `run_folder` stands; every process of the world must call it.

    `observe` gets progress events on the first process ({"step": ...} or {"say": line}); `on_report` gets every report
    on every process; `is_leaving` is asked before every step, on every process. Raises UserError for what stops a run
    and trying again would not mend, Leaving at the end of a step before which some process was leaving.
    driver: whoever starts this; processes that it started earlier have ended
    """
    started = time.monotonic()
    with begin_pretraining(job, RunFolder(run_folder), device, observe, prepared_folder, driver) as run:
        valid: dict[str, float] = {}
        for report in run.training(is_leaving):
            on_report(report)
            valid = report.valid
        if not valid:  # killed after the last step: nothing was left to train
            valid = run.data.validate(run.state, job.train, run.world)
        seconds = time.monotonic() - started
        return finish(job, run, valid, seconds)


@dataclass(frozen=True)
class Pretraining:
    """A run whose folder is held, whose parts are built, and which has not trained yet.

    model: the job's, with every `auto` decided
    """

    job: PretrainJob
    folder: RunFolder
    prepared: Prepared
    model: BackboneOptions
    state: LoopState
    data: CorpusData
    world: World
    observe: Observer

    def training(self, is_leaving: Callable[[], bool] = lambda: False) -> Iterator[StepReport]:
        """The steps that are left, kept and tracked, until `is_leaving` on some process."""
        train, state = self.job.train, self.state
        tracking = Tracking(
            folder=self.folder,
            title=render(self.job),
            log_every_steps=train.log_every_steps,
            checkpoint_every_steps=train.checkpoint_every_steps,
            keep_checkpoints=train.keep_checkpoints,
            observe=self.observe,
            panels=lambda board, step: board.text(step, "samples", as_markdown(draw_samples(state, self.prepared))),
            is_leaving=is_leaving,
        )
        return run_training(state, self.data, train, self.job.optimizer, self.world, tracking)


@contextmanager
def begin_pretraining(
    job: PretrainJob,
    folder: RunFolder,
    device: torch.device,
    observe: Observer,
    prepared_folder: Path,
    driver: str = "",
) -> Iterator[Pretraining]:
    """The run, held against other processes as long as the context lasts; every process of the world must enter it."""
    world = World.current(device)
    prepared = world.on_all(lambda: open_prepared(prepared_folder, job.data, job.run.shard_cache))
    with held(folder, job, world, lambda line: observe({"say": line}), job.run.copies, driver) as folder:
        model, notes = resolve_model(job, prepared.tokenizer.get_vocab_size(), world)
        state = build_state(job, prepared, device, model)
        for note in [*notes, *sharding_notes(state.model)] if world.is_first else []:
            observe({"say": note})
        data = build_data(prepared, job.train.eval_blocks)
        yield Pretraining(job, folder, prepared, model, state, data, world, observe)


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


def finish(job: PretrainJob, run: Pretraining, valid: dict[str, float], seconds: float) -> PretrainResult:
    """Export a run; every process must call it, as each may hold a share of the weights."""
    weights = gather(named_tensors(run.state.model), run.world)
    with whole(run.state.model):
        return run.world.on_first(lambda: export(job, run, weights, valid, seconds))


def export(
    job: PretrainJob, run: Pretraining, weights: Mapping[str, Tensor], valid: dict[str, float], seconds: float
) -> PretrainResult:
    """Write the files that make the folder usable on its own, the result last.

    The model's options go in as they were decided here: elsewhere `auto` could mean another attention.
    """
    state, vocab_size = run.state, run.prepared.tokenizer.get_vocab_size()
    result = PretrainResult(
        step=state.step,
        tokens_seen=state.tokens_seen,
        num_parameters=count_parameters(state.model),
        metrics=valid,
        samples=draw_samples(state, run.prepared),
        seconds=seconds,
    )
    config = {
        "format": 1,
        "model": run.model.model_dump(mode="json"),
        "objective": job.objective.model_dump(mode="json"),
        "vocab_size": vocab_size,
        "block_tokens": job.data.block_tokens,
    }
    with storage_errors(run.folder.path):
        keep_run(run.folder, weights, run.prepared.tokenizer, config)
        write_whole(run.folder.result, as_json(asdict(result)))
    return result
