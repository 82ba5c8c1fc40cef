"""A trial of a search as one process of possibly several runs it.

job --begin--> the steps that are left --each validation--> Validation: number, step, seconds, values
job with seeds or folds --> one run after the other --each run's end--> the means so far

Everything that a trial has reached lies in its folder: whoever goes on with it has its past.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from reforge.loop import Checkpoints, Plan, StepReport, World, restore, score
from reforge.loop.train import is_over
from reforge.models import count_parameters
from reforge.runs.finetune import Finetuning, answer, begin_finetuning, take_best
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.folder import RunFolder
from reforge.runs.memory_measure import MemoryMeter
from reforge.runs.pretrain import Pretraining, begin_pretraining
from reforge.runs.shared import Shared
from reforge.runs.tracker import SECONDS
from reforge.runs.trial_job import TrialJob
from reforge.runs.turn import Turn, keep_round, take_over
from reforge.search.options import MetricOptions
from reforge.search.validations import Validation, value_of
from reforge.tracking import MetricsLog, read_metrics

GIB = 2**30
Begun = Finetuning | Pretraining


@dataclass(frozen=True)
class TrialTask:
    """What a process must know to run a trial.

    job: the trial's own, whose folder is the trial's
    curves: where its TensorBoard files lie
    prepared: the corpus of a pre-training
    metrics: what the search compares by
    turn: of a population's trial, what it trains until it waits for the others; None: all of it
    """

    number: int
    job: TrialJob
    curves: Path
    metrics: tuple[MetricOptions, ...]
    prepared: Path | None = None
    turn: Turn | None = None


@dataclass(frozen=True)
class TrialReport:
    """What a trial has reached so far.

    history: all of its reports
    facts: {"num_parameters": ..., "peak_memory_gib": ..., "tokens_per_second": ...}
    is_last: nothing is left to train
    """

    history: tuple[Validation, ...]
    facts: Mapping[str, float]
    is_last: bool


@dataclass
class Workplace:
    """What stays warm in a process from trial to trial."""

    device: torch.device
    shared: Shared = field(default_factory=Shared)


def run_trial(task: TrialTask, place: Workplace) -> Iterator[TrialReport]:
    """Train a trial from where its folder stands, a report each time there is something to judge.

    Every process of the world must consume it in step; closing it early leaves a trial that can be gone on with. A
    trial that is gone on with gives its last report once more, before it trains.
    """
    meter = MemoryMeter(place.device)
    if isinstance(task.job, FinetuneJob) and task.job.has_members:
        return _run_members(task, task.job, place, meter)
    return _run_single(task, place, meter)


def history_of(folder: RunFolder, world: World) -> tuple[Validation, ...]:
    """The validations of a single run, on the first process; () on the others."""
    if not world.is_first or not folder.metrics.is_file():
        return ()
    rows = [row for row in read_metrics(folder.metrics) if any(name.startswith("valid/") for name in row)]
    return tuple(
        Validation(number, int(row["step"]), row.get(SECONDS, 0.0), _without(row, "step", SECONDS))
        for number, row in enumerate(rows, start=1)
    )


def _run_single(task: TrialTask, place: Workplace, meter: MemoryMeter) -> Generator[TrialReport]:
    folder, world = RunFolder(task.job.folder, curves=task.curves), World.current(place.device)
    turn, last = task.turn, None
    if turn is not None:
        world.on_first(lambda: take_over(folder, turn))
    with begin(task.job, folder, place, task.prepared) as run:
        for report in _reports(run, meter):
            if turn is not None and not report.is_last and world.on_first(partial(_ends, turn, report)):
                last = report
                break
            yield report
    if last is not None and turn is not None:  # nobody holds the folder now: whoever goes on with it may
        world.on_first(lambda: keep_round(folder, turn.ends_at))
        yield last


def _reports(run: Begun, meter: MemoryMeter) -> Generator[TrialReport]:
    facts = {"num_parameters": float(count_parameters(run.state.model))}
    if (reached := _reached(run)) is not None:
        yield TrialReport(reached, facts, is_over(run.state, _plan(run)))
    for report in run.training():
        if report.valid:
            yield TrialReport(history_of(run.folder, run.world), facts | _measured(meter, report), report.is_last)


def _ends(turn: Turn, report: TrialReport) -> bool:
    return report.history[-1].number >= turn.ends_at


def _reached(run: Begun) -> tuple[Validation, ...] | None:
    """The validations up to the checkpoint that an earlier start left, whose state is taken; None where there is none.

    The driver may not have heard of them, or died before it gave its verdict.
    """
    newest = run.world.on_first(Checkpoints(run.folder.checkpoints).newest_complete)
    if newest is None:
        return None
    run.world.on_all(lambda: restore(run.state, newest))
    history = tuple(each for each in history_of(run.folder, run.world) if each.step <= run.state.step)
    return history if run.world.on_first(lambda: bool(history)) else None


def _plan(run: Begun) -> Plan:
    return run.plan if isinstance(run, Finetuning) else run.job.train


def _run_members(task: TrialTask, job: FinetuneJob, place: Workplace, meter: MemoryMeter) -> Generator[TrialReport]:
    """A report is the mean over the members so far, its number that of the members."""
    log_file, world = job.folder / "reports.jsonl", World.current(place.device)
    rows = world.on_first(lambda: read_metrics(log_file) if log_file.is_file() else [])
    members = job.members()
    seconds = rows[-1][SECONDS] if rows else 0.0
    if rows:  # the driver may not have heard of them, or died before it gave its verdict
        yield TrialReport(_running_means(rows), {}, is_last=len(rows) == len(members))
    for number, (name, member) in enumerate(members, start=1):
        if number > len(rows):
            started = time.monotonic()
            values, facts = _run_member(member, task.curves / name, task.metrics, place, meter)
            seconds += time.monotonic() - started
            rows.append({"step": number, SECONDS: seconds, **values})
            row = rows[-1]
            world.on_first(lambda row=row: _append(log_file, row))  # type: ignore[misc]
            yield TrialReport(_running_means(rows), facts, is_last=number == len(members))


def _run_member(
    job: FinetuneJob, curves: Path, metrics: Sequence[MetricOptions], place: Workplace, meter: MemoryMeter
) -> tuple[dict[str, float], dict[str, float]]:
    """One run of several to its end: the values of the metrics, and the facts."""
    folder = RunFolder(job.folder, curves=curves)
    with begin_finetuning(job, folder, place.device, lambda event: None, place.shared) as run:
        facts = {"num_parameters": float(count_parameters(run.state.model))}
        for report in run.training():
            facts |= _measured(meter, report)
        if any(metric.name.startswith("test/") for metric in metrics):
            return _tested(run), facts
        history = run.world.on_first(lambda: history_of(folder, run.world))
    # What is measured beside the validations is no mean over the runs.
    return {each.name: value_of(each, history, {}) for each in metrics if each.name.startswith("valid/")}, facts


def _tested(run: Finetuning) -> dict[str, float]:
    """The scores of the weights that the run keeps, on its validation and its test set."""
    if run.job.train.keep == "best":
        run.world.on_all(lambda: take_best(run.state, run.folder))
    answers = answer(run)
    setup = run.setup

    def scores() -> dict[str, float]:
        assert answers is not None
        assert answers.test is not None
        assert setup.test is not None
        valid = {**score(setup.task, setup.valid, answers.valid).metrics, "loss": answers.valid.loss}
        test = {**score(setup.task, setup.test, answers.test).metrics, "loss": answers.test.loss}
        return {f"valid/{name}": v for name, v in valid.items()} | {f"test/{name}": v for name, v in test.items()}

    return run.world.on_first(scores)


def begin(job: TrialJob, folder: RunFolder, place: Workplace, prepared: Path | None) -> AbstractContextManager[Begun]:
    """The run of a job of either kind, its folder held."""
    if isinstance(job, FinetuneJob):
        return begin_finetuning(job, folder, place.device, lambda event: None, place.shared)
    assert prepared is not None, "the driver has prepared the corpus"
    return begin_pretraining(job, folder, place.device, lambda event: None, prepared)


def smaller_batches(job: TrialJob) -> TrialJob | None:
    """The same job, and global batch, with half as much in the model at once; None where that is one row already."""
    tokens = job.train.micro_batch_tokens // 2
    if tokens < job.data.block_tokens:
        return None
    smaller: TrialJob = job.model_copy(update={"train": job.train.model_copy(update={"micro_batch_tokens": tokens})})
    return smaller


def _measured(meter: MemoryMeter, report: StepReport) -> dict[str, float]:
    return {"peak_memory_gib": meter.peak() / GIB, "tokens_per_second": report.tokens_per_second}


def _running_means(rows: Sequence[Mapping[str, float]]) -> tuple[Validation, ...]:
    names = _without(rows[0], "step", SECONDS).keys()
    return tuple(
        Validation(
            count, count, rows[count - 1][SECONDS], {name: fmean(r[name] for r in rows[:count]) for name in names}
        )
        for count in range(1, len(rows) + 1)
    )


def _append(file: Path, row: Mapping[str, Any]) -> None:
    with MetricsLog(file, resume_step=int(row["step"]) - 1) as log:
        log.write(int(row["step"]), _without(row, "step"))


def _without(row: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in names}
