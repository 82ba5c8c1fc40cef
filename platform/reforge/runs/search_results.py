"""What a search leaves to go on with: the spec of the best trial, and the trial itself as a finished run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.folder import storage_errors
from reforge.runs.job import PretrainJob, ScaleOptions
from reforge.runs.pretrain import pretrain
from reforge.runs.search_run import (
    BEST_STEP,
    ENDED_EARLY,
    MICRO_BATCH,
    STEPS,
    TRIALS,
    SearchRun,
    with_micro_batch,
)
from reforge.runs.trial_job import TrialJob
from reforge.runs.tune_job import TuneOptions
from reforge.runs.turn import LINEAGE_FILE
from reforge.search.records import TrialRecord
from reforge.spec import render
from reforge.tracking import write_whole


@dataclass(frozen=True)
class BestTrial:
    """A trial that no other beats.

    job: trains it again to the same metric; null name and storage are the search's own
    spec: where that lies
    folder: of the trial itself
    """

    record: TrialRecord
    job: TrialJob
    spec: Path
    folder: Path


def keep_best(run: SearchRun) -> list[BestTrial]:
    """Write best.yaml, or of several metrics one spec for each trial of the Pareto front."""
    options, best = run.options, run.study.best
    several = len(options.metrics) > 1
    found = []
    with storage_errors(options.folder):
        for stale in options.folder.glob("best*.yaml"):
            stale.unlink()
        for record in best:
            suffix = f"best-{record.number:04d}" if several else "best"
            job = job_again(run, record, f"{options.name}-{suffix}")
            spec = options.folder / f"{suffix}.yaml"
            write_whole(spec, f"{_headline(options, record)}{render(job)}")
            found.append(BestTrial(record, job, spec, options.folder / TRIALS / f"{record.number:04d}"))
    return found


def job_again(run: SearchRun, record: TrialRecord, name: str) -> TrialJob:
    """The job that trains a trial again: as far as it went, on as many processes and threads."""
    options, resources = run.options, run.options.resources
    trial = with_micro_batch(run.job_of(record.assignment, record.number), record.facts.get(MICRO_BATCH))
    changes: dict[str, Any] = {
        "name": name,
        "run": trial.run.model_copy(update={"storage": options.run.storage}),
        "scale": ScaleOptions(num_workers=resources.num_workers, cpus_per_worker=resources.cpus),
        "train": trial.train.model_copy(update={"stop_at_step": _last_step(options, trial, record.facts)}),
    }
    job: TrialJob = trial.model_copy(update=changes)
    return job


def _last_step(options: TuneOptions, job: TrialJob, facts: Mapping[str, float | str]) -> int | None:
    """Where training has to end to have the trial's value; None where that is the job's own end."""
    if isinstance(job, FinetuneJob) and job.has_members:
        return None
    steps, best = int(facts[STEPS]), int(facts[BEST_STEP])
    if isinstance(job, FinetuneJob):  # which keeps its best weights
        return steps if facts[ENDED_EARLY] else None
    end = best if options.metrics[0].scope == "best" else steps
    return end if end < job.train.max_steps else None


def _headline(options: TuneOptions, record: TrialRecord) -> str:
    values = zip(options.metrics, record.values, strict=True)
    figures = ", ".join(f"{metric.name} {value!r} ({metric.scope})" for metric, value in values)
    head = f"# Trial {record.number} of the search {options.name}: {figures}\n"
    if not record.lineage:
        return head
    whole = f"{TRIALS}/{record.number:04d}/{LINEAGE_FILE}"
    return head + (
        f"# Its population's schedule made it: it took over the weights of others {len(record.lineage)} times, with\n"
        f"# other parameters each time ({whole}). Here are the last; this job alone does not train it again.\n"
    )


def finish_best(best: BestTrial, device: torch.device, prepared: Path | None) -> None:
    """Make the trial's folder a finished run, with weights and scores.

    Checkpoints from after the step that its value is of go first; what was kept of those before decides whether any
    step is trained again.
    """
    run = best.job.run.model_copy(update={"storage": best.folder.parent})
    job: TrialJob = best.job.model_copy(update={"name": best.folder.name, "run": run})
    _drop_later(best)
    if isinstance(job, PretrainJob):
        assert prepared is not None
        pretrain(job, best.folder, prepared, device)
    else:
        finetune(job, best.folder, device)


def _drop_later(best: BestTrial) -> None:
    end = best.job.train.stop_at_step
    for folder in (best.folder / "checkpoints").glob("step-*"):
        if end is not None and int(folder.name.removeprefix("step-")) > end:
            shutil.rmtree(folder)


def disk_bytes(folder: Path) -> int:
    """What a folder takes on the disk, as far as it can be seen."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
