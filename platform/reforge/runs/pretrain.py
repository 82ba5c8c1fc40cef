"""Pre-training as one process of possibly several does it: build or resume, train, keep, export.

Prepared --build--> LoopState --train()--> StepReport --> metrics.jsonl, TensorBoard, progress
                        ^-- newest checkpoint    '--> checkpoints --> export
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors.torch import save_file

from reforge.batches import Prepared, open_prepared
from reforge.loop import (
    Checkpoints,
    LoopState,
    StepReport,
    World,
    named_tensors,
    restore,
    seed_everything,
    train,
    validate,
)
from reforge.models import BackboneOptions, count_parameters
from reforge.objectives import Sample
from reforge.runs.build import build_data, build_state, resolve_model
from reforge.runs.folder import RunFolder, storage_errors, write_atomically
from reforge.runs.job import PretrainJob
from reforge.spec import UserError, render
from reforge.tracking import MetricsLog, TensorBoardSink

NUM_SAMPLES = 3
Observer = Callable[[Mapping[str, Any]], None]


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
    model, notes = resolve_model(job, prepared.tokenizer.get_vocab_size(), world)
    state = build_state(job, prepared, device, model)
    data = build_data(prepared)
    checkpoints = Checkpoints(folder.checkpoints, lambda line: observe({"say": line}))
    newest = world.on_first(checkpoints.newest_complete)
    if newest is not None:
        world.on_all(lambda: restore(state, newest))
    trackers: list[Tracker] = []
    world.on_first(lambda: trackers.append(open_tracker(job, folder, prepared, state, observe)))
    tracker = trackers[0] if trackers else None
    for note in notes if tracker else []:
        observe({"say": note})
    valid: dict[str, float] = {}
    try:
        for report in train(state, data, job.train, job.optimizer, world):
            if tracker:
                tracker.take(report)
            last = report.step == job.train.max_steps
            if last or report.is_best or report.step % job.train.checkpoint_every_steps == 0:
                world.on_first(lambda: save(checkpoints, state, job, tracker))
            on_report(report)
            valid = report.valid
        if not valid:  # killed between the last step and the export: nothing was left to train
            valid = validate(state, data, job.train, world)
        seconds = time.monotonic() - started
        result = world.on_first(lambda: export(job, model, folder, prepared, state, valid, seconds))
    finally:
        if tracker:
            tracker.close()
        for file in held:
            file.close()
    return result


def save(checkpoints: Checkpoints, state: LoopState, job: PretrainJob, tracker: "Tracker | None") -> None:
    """Write a checkpoint; raises UserError where it, or the curves since the last one, cannot be written."""
    if tracker:
        tracker.flush()  # a resume goes on after this step: what leads up to it must be on disk
    checkpoints.save(state, job.train.keep_checkpoints)


def open_tracker(
    job: PretrainJob, folder: RunFolder, prepared: Prepared, state: LoopState, observe: Observer
) -> "Tracker":
    """The run's tracker; raises UserError where its files cannot be written."""
    with storage_errors(folder.path):
        return Tracker(job, folder, prepared, state, observe)


class Tracker:
    """Turns reports into rows, curves and progress; lives on the first process only."""

    def __init__(
        self, job: PretrainJob, folder: RunFolder, prepared: Prepared, state: LoopState, observe: Observer
    ) -> None:
        self.job = job
        self.prepared = prepared
        self.state = state
        self.observe = observe
        # A full disk is met here first, on one process only; the next checkpoint stops the run on all of them.
        self.trouble: OSError | None = None
        resumed = state.step > 0
        self.log = MetricsLog(folder.metrics, resume_step=state.step)
        self.board = TensorBoardSink(folder.tensorboard, purge_step=state.step + 1 if resumed else None)
        if resumed:
            observe({"say": f"going on from step {state.step:,} of {job.train.max_steps:,}"})
        else:
            self.board.text(0, "spec", f"```yaml\n{render(job)}```")
        observe({"start": state.step})

    def take(self, report: StepReport) -> None:
        """Log one report where it is due."""
        self.observe(
            {"step": report.step, "loss": report.loss, "lr": report.lr, "tokens_per_second": report.tokens_per_second}
        )
        try:
            self._write(report)
        except OSError as error:
            self.trouble = error

    def _write(self, report: StepReport) -> None:
        due = report.step == 1 or report.step % self.job.train.log_every_steps == 0 or bool(report.valid)
        if due:
            values = {
                "train/loss": report.loss,
                **({f"train/{name}": mean for name, mean in report.terms.items()} if len(report.terms) > 1 else {}),
                "train/lr": report.lr,
                "train/grad_norm": report.grad_norm,
                "train/tokens_per_second": report.tokens_per_second,
                "train/tokens_seen": report.tokens_seen,
                "train/epoch": report.epoch,
                **{f"valid/{name}": value for name, value in report.valid.items()},
            }
            self.log.write(report.step, values)
            self.board.scalars(report.step, values)
        if report.valid:
            self.board.text(report.step, "samples", as_markdown(draw_samples(self.state, self.prepared)))
            figures = "  ".join(f"{name} {value:.4g}" for name, value in report.valid.items())
            self.observe({"say": f"step {report.step:,} validation: {figures}"})

    def flush(self) -> None:
        """Return once everything taken so far is in the files; raises UserError where that failed."""
        try:
            self.board.flush()
        except OSError as error:
            self.trouble = error
        if self.trouble:
            raise UserError(f"cannot write the curves under {self.job.folder}: {self.trouble}")

    def close(self) -> None:
        """Flush and close the files."""
        # What a full disk does to them here has been, or is being, reported: it must not take that message's place.
        for close in (self.log.close, self.board.close):
            with contextlib.suppress(OSError):
                close()


def draw_samples(state: LoopState, prepared: Prepared) -> list[Sample]:
    """A few readable samples from validation blocks spread over the set, the same ones every time."""
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
        writing = folder.weights.with_name(f".{folder.weights.name}.writing")
        tensors = {name: tensor.cpu() for name, tensor in named_tensors(state.model).items()}
        save_file(tensors, writing, metadata={"format": "pt"})
        writing.replace(folder.weights)
        write_atomically(folder.tokenizer, prepared.tokenizer.to_str(pretty=True))
        write_atomically(folder.config, json.dumps(config, indent=1) + "\n")
        write_atomically(folder.result, json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")
    return result
