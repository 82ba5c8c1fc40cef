"""A fine-tuning of several seeds or folds: its single runs, and the figures over all of them.

runs/NAME/members/seed-1-fold-2/...   each a run of its own, with all files
runs/NAME/{spec.yaml, result.json, tensorboard/}   mean and spread of every figure
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from reforge.corpora.place import is_folder
from reforge.loop.checkpoint import as_json
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.finetune_results import FinetuneResult
from reforge.runs.folder import RunFolder, RunStatus, parse_result, storage_errors
from reforge.runs.store import writable
from reforge.spec import UserError, render
from reforge.tracking import TensorBoardSink, write_whole

MEMBERS = "members"


@dataclass(frozen=True)
class Summary:
    """The figures of a job: one result by member, mean and sample standard deviation of each metric over them."""

    members: dict[str, FinetuneResult]
    mean: dict[str, float]
    spread: dict[str, float]
    seconds: float

    @classmethod
    def of(cls, results: Mapping[str, FinetuneResult]) -> "Summary":
        """The summary of finished members; the spread of a single one is nan."""
        first = next(iter(results.values()))
        values = {name: [result.metrics[name] for result in results.values()] for name in first.metrics}
        return cls(
            members=dict(results),
            mean={name: fmean(found) for name, found in values.items()},
            spread={name: stdev(found) if len(found) > 1 else math.nan for name, found in values.items()},
            seconds=sum(result.seconds for result in results.values()),
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Summary":
        """What a job's result.json holds."""
        return cls.of(parse_result(dict[str, FinetuneResult], values.get("members")))


def folder_of(job: FinetuneJob) -> RunFolder:
    """The folder of a job: a single run's own, or that over its members."""
    return RunFolder(job.folder, kept_in=MEMBERS if job.has_members else "checkpoints")


def finished(job: FinetuneJob) -> Summary | None:
    """The figures of a job that has nothing left to do; None for any other.

    Raises UserError where its folder holds a run of another spec.
    """
    _refuse_other_form(job)
    folder = folder_of(job)
    if folder.status(job) is not RunStatus.FINISHED:
        return None
    values = folder.read_result()
    if not job.has_members:
        return Summary.of({"": FinetuneResult.from_json(values)})
    results = Summary.from_json(values).members  # of all seeds that were ever asked for
    return Summary.of({name: results[name] for name, _ in job.members()})


def _refuse_other_form(job: FinetuneJob) -> None:
    one, several = "a single run", "several runs (repeat, cv)"
    kept_in, found, wanted = ("checkpoints", one, several) if job.has_members else (MEMBERS, several, one)
    if is_folder(job.folder / kept_in):
        raise UserError(
            f"{job.folder} holds {found}, and this job is {wanted}; choose another name (name=...), or delete the "
            "folder to start anew"
        )


def result_of(member: FinetuneJob) -> FinetuneResult | None:
    """The figures of a member that is finished; None for any other."""
    folder = RunFolder(member.folder)
    if folder.status(member) is not RunStatus.FINISHED:
        return None
    return FinetuneResult.from_json(folder.read_result())


def summarise(job: FinetuneJob, results: Mapping[str, FinetuneResult]) -> Summary:
    """The figures of a job whose members are finished; written where it has several."""
    summary = Summary.of(results)
    if job.has_members:
        folder = folder_of(job)
        with storage_errors(folder.path), writable(folder.path) as path:
            folder = RunFolder(path)
            write_whole(folder.spec, render(job))
            keep_curves(folder.tensorboard, summary)
            values = {
                "members": {name: asdict(result) for name, result in summary.members.items()},
                "mean": summary.mean,
                "spread": {name: None if math.isnan(value) else value for name, value in summary.spread.items()},
                "seconds": summary.seconds,
            }
            write_whole(folder.result, as_json(values))
    return summary


def keep_curves(folder: Path, summary: Summary) -> None:
    """Mean and spread as TensorBoard shows them, and each member's value as a step of a curve."""
    board = TensorBoardSink(folder, purge_step=None)
    for step, result in enumerate(summary.members.values(), start=1):
        board.scalars(step, {f"members/{name}": value for name, value in result.metrics.items()})
    board.scalars(0, {f"mean/{name}": value for name, value in summary.mean.items()})
    board.scalars(0, {f"spread/{name}": value for name, value in summary.spread.items() if not math.isnan(value)})
    board.text(0, "members", f"```json\n{json.dumps(summary.mean, indent=1)}\n```")
    board.close()
