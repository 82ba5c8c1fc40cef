"""Which trials of a search fit into the memory that one of them has, known before they train.

draw --job--> estimate --MemoryFit of some dry runs--> bytes --limit--> a reason not to train it, or none
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reforge.models import Device
from reforge.runs.dry_run import DryRun
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.memory_fit import NO_FIT, MemoryFit, fits, limit_of_a_trial
from reforge.runs.memory_model import KnownRows, MemoryEstimate, estimate
from reforge.runs.trial_job import TrialJob
from reforge.runs.tune_job import TuneSearch
from reforge.spec import UserError
from reforge.tracking import write_whole

# Where the largest of some draws is estimated to take less than this share of the limit, no draw can be too large.
_NO_CONCERN = 0.5
_NUM_DRAWS = 60


@dataclass(frozen=True)
class TrialMemory:
    """What a trial's worker may take, and what its job will.

    device: of a worker, with the whole memory of the GPU or of the machine
    limit_bytes: what one worker of a trial has of it for its job
    rows: what the sets of fine-tunings say, by `rows_key`
    """

    device: Device
    limit_bytes: int
    num_workers: int = 1
    fit: MemoryFit = NO_FIT
    rows: Mapping[str, KnownRows] = field(default_factory=dict)

    @classmethod
    def of(cls, device: Device, gpus: float, at_once: int, num_workers: int, file: Path) -> "TrialMemory":
        """With what an earlier start of the search kept in `file`."""
        limit = limit_of_a_trial(device, gpus, at_once, num_workers)
        if not file.is_file():
            return cls(device, limit, num_workers)
        kept = json.loads(file.read_text(encoding="utf-8"))
        rows = {key: KnownRows(**one)._replace(labels=tuple(one["labels"])) for key, one in kept["rows"].items()}
        return cls(device, limit, num_workers, MemoryFit.of_json(kept["fit"]), rows)

    def with_run(self, job: TrialJob, run: DryRun) -> "TrialMemory":
        """With what a dry run of a job measured, and what it read."""
        fit = self.fit.with_point(run.estimated_bytes, run.measured_bytes)
        known = {rows_key(job): run.rows} if run.rows is not None else {}
        return replace(self, fit=fit, rows={**self.rows, **known})

    def trouble(self, job: TrialJob) -> str:
        """Why a job does not fit, "" where it does."""
        try:
            rows = self.rows.get(rows_key(job))
            return fits(_first(job), self.limit_bytes, self.device, self.fit, num_workers=self.num_workers, rows=rows)
        except UserError as error:  # a combination that cannot be built
            return str(error)

    def estimate(self, job: TrialJob) -> MemoryEstimate:
        """What a job takes, by its parts."""
        return estimate(_first(job), self.device, self.num_workers, rows=self.rows.get(rows_key(job)))

    def predicted(self, job: TrialJob) -> int:
        """What a job takes, by the fit."""
        return self.fit.predict(self.estimate(job))

    def keep(self, file: Path) -> None:
        """Write fit and rows for later starts."""
        rows = {key: one._asdict() for key, one in self.rows.items()}
        write_whole(file, json.dumps({"fit": self.fit.as_json(), "rows": rows}) + "\n")


def _first(job: TrialJob) -> TrialJob:
    """The single run that stands for all of a job's, as far as memory goes."""
    members = getattr(job, "members", None)
    first: TrialJob = members()[0][1] if members is not None else job
    return first


def rows_key(job: TrialJob) -> str:
    """The same for fine-tunings that make the same rows of the same sets, "" for what is none."""
    if not isinstance(job, FinetuneJob):
        return ""
    return job.model_dump_json(include={"task": True, "data": True, "tokenizer": True, "encoder": {"run"}})


def violations(search: TuneSearch, memory: TrialMemory, assignment: Mapping[str, Any]) -> list[str]:
    """What keeps an assignment from being trained: constraints, the job's own rules, else its memory."""
    if found := search.violated(assignment):
        return found
    trouble = memory.trouble(search.job(assignment))
    return [trouble] if trouble else []


def by_size(search: TuneSearch, memory: TrialMemory) -> list[tuple[int, TrialJob]]:
    """Some jobs of the space with their bytes, the smallest first; those that do not fit are among them."""
    draws = search.space.draws(_NUM_DRAWS, seed=0)
    jobs = [search.job(assignment) for assignment in draws if not search.violated(assignment)]
    sized = []
    for job in jobs:
        try:
            sized.append((memory.predicted(job), job))
        except UserError:
            continue
    return sorted(sized, key=lambda pair: pair[0])


def needs_a_fit(memory: TrialMemory, sized: list[tuple[int, TrialJob]]) -> bool:
    """Whether it matters how good the estimate is: some jobs come near the limit, and nothing was measured yet."""
    largest = sized[-1][0] if sized else 0
    return not memory.fit.points and largest > _NO_CONCERN * memory.limit_bytes


def to_measure(memory: TrialMemory, sized: list[tuple[int, TrialJob]]) -> list[TrialJob]:
    """The smallest, the median and the largest of the jobs that fit."""
    fitting = [job for size, job in sized if size <= memory.limit_bytes]
    if not fitting:
        return []
    places = dict.fromkeys((0, len(fitting) // 2, len(fitting) - 1))
    return [fitting[place] for place in places]
