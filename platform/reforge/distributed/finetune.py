"""Fine-tuning on Ray: the single runs of one job or many, several at once where each takes one worker.

jobs --members()--> runs that are not finished --one worker each--> Ray tasks, as many at once as fit
                                             '--several workers---> one group of Ray Train for all runs of the job
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError
from ray.train.torch import get_device

from reforge.distributed import arguments
from reforge.distributed.cluster import Resources, start_if_none, worker_shape
from reforge.distributed.leaving import is_leaving, watching
from reforge.distributed.progress import ProgressReader, ProgressSender
from reforge.distributed.shared_storage import check_nodes, check_workers, mark
from reforge.distributed.stopping import stoppable
from reforge.distributed.train import DRIVER, run_group
from reforge.runs.dry_run import DryRun, dry_run_finetune
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.finetune_results import FinetuneResult
from reforge.runs.job import ScaleOptions
from reforge.runs.members import Summary, finished, result_of, summarise
from reforge.runs.stop_request import Leaving, Stopped
from reforge.spec import UserError
from reforge.tracking import Lines, Progress

Say = Callable[[str], None]
# How long other runs that were asked to stop may take for it.
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class _Member:
    """A single run: of which job, under which name there, and as what it is spoken of."""

    job: int
    name: str
    spec: FinetuneJob
    label: str


def run_jobs(jobs: Mapping[str, FinetuneJob], resources: Resources, say: Say) -> dict[str, Summary]:
    """Run what is not finished of `jobs`, named for their lines of progress; the figures of each.

    A run that fails for a reason its user can mend does not stop the others: UserError is raised in the end, with all
    reasons.
    """
    names, specs = list(jobs), list(jobs.values())
    done = [finished(spec) for spec in specs]
    results: list[dict[str, FinetuneResult]] = [{} for _ in specs]
    waiting: list[_Member] = []
    for number, (name, spec) in enumerate(jobs.items()):
        for member_name, member in spec.members() if done[number] is None else []:
            result = result_of(member)
            if result is not None:
                results[number][member_name] = result
            else:
                label = " ".join(filter(None, (name, member_name)))
                waiting.append(_Member(number, member_name, member, label))
    troubles = _run(waiting, results, resources, say) if waiting else []
    summaries: dict[str, Summary] = {}
    for number, spec in enumerate(specs):
        summary = done[number]
        if summary is None and results[number].keys() == {name for name, _ in spec.members()}:
            summary = summarise(spec, results[number])
        if summary is not None:
            summaries[names[number]] = summary
    if troubles:
        raise UserError("\n".join(troubles))
    return summaries


def _run(
    waiting: Sequence[_Member], results: list[dict[str, FinetuneResult]], resources: Resources, say: Say
) -> list[str]:
    """Run the members, put their figures into `results`, give the reasons of those that failed."""
    start_if_none(resources)
    check_nodes([("run.storage", member.spec.run.folder) for member in waiting])
    alone = [member for member in waiting if worker_shape(member.spec.scale, resources).num_workers == 1]
    troubles: list[str] = []

    def keep(member: _Member, result: FinetuneResult) -> None:
        results[member.job][member.name] = result
        if len(waiting) > 1:
            count = sum(map(len, results))
            say(f"{member.label}: {_main_figures(member.spec, result)} in {result.seconds:.0f} s ({count} done)")

    def fail(member: _Member, reason: str) -> None:
        troubles.append(f"{member.label}: {reason}" if member.label else reason)

    with stoppable(lambda: [member.spec.folder.absolute() for member in waiting]):
        if alone:
            _run_tasks(alone, resources, keep, fail)
        for number in sorted({member.job for member in waiting if member not in alone}):
            _run_in_group([m for m in waiting if m.job == number], resources, keep, fail)
    return troubles


def _main_figures(spec: FinetuneJob, result: FinetuneResult) -> str:
    metric, _ = spec.task.goal
    found = {part: result.metrics.get(f"{part}/{metric}") for part in ("valid", "test")}
    return ", ".join(f"{part} {metric} {value:.4f}" for part, value in found.items() if value is not None)


def _run_tasks(
    members: Sequence[_Member],
    resources: Resources,
    keep: Callable[[_Member, FinetuneResult], None],
    fail: Callable[[_Member, str], None],
) -> None:
    with ProgressReader(Progress(1) if len(members) == 1 else Lines()) as reader:
        running: dict[ray.ObjectRef, _Member] = {}
        start = partial(_start_task, reader.board, len(members), resources)
        try:
            for member in members:
                running[start(member)] = member
            while running:
                [reference], _ = ray.wait(list(running), num_returns=1)
                member = running.pop(reference)
                try:
                    keep(member, FinetuneResult.from_json(ray.get(reference)))
                except RayTaskError as error:
                    if isinstance(error.cause, Leaving):
                        running[start(member)] = member
                        continue
                    if isinstance(error.cause, Stopped):
                        arguments.say(f"{member.label}: {error.cause}" if member.label else str(error.cause))
                        ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)  # asked as well
                        raise KeyboardInterrupt from None
                    if not isinstance(error.cause, UserError):
                        raise
                    fail(member, str(error.cause))
                except (WorkerCrashedError, OutOfMemoryError, NodeDiedError) as error:
                    tries = member.spec.scale.max_failures + 1
                    fail(member, f"its process died {tries} times, the last time so: {_first_line(error)}")
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _start_task(board: ActorHandle, num_runs: int, resources: Resources, member: _Member) -> ray.ObjectRef:
    shape = worker_shape(_shared(member.spec.scale, num_runs, resources), resources)
    config = {
        "job": member.spec,
        "run": member.spec.folder.absolute(),
        "board": board,
        "prefix": f"{member.label}: " if num_runs > 1 else "",
        "cwd": str(Path.cwd()),
        "driver": DRIVER,
        "marks": mark([("run.storage", member.spec.run.folder)]),
    }
    retries = member.spec.scale.max_failures
    task = _finetune_task.options(num_cpus=shape.cpus, num_gpus=shape.gpus, max_retries=retries)
    return task.remote(config, shape.cpus)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _shared(scale: ScaleOptions, num_runs: int, resources: Resources) -> ScaleOptions:
    """`scale` with `auto` CPUs as an equal share for each of the runs that go on at once."""
    if scale.cpus_per_worker != "auto":
        return scale
    return scale.model_copy(update={"cpus_per_worker": max(1, resources.num_cpus // num_runs)})


@ray.remote  # type: ignore[untyped-decorator]
def _finetune_task(config: dict[str, Any], num_cpus: int) -> dict[str, Any]:
    torch.set_num_threads(num_cpus)
    check_workers(config["marks"])
    device = torch.device("cuda", 0) if ray.get_gpu_ids() else torch.device("cpu")
    with watching():
        return asdict(_finetune(config, device))


def _finetune(config: dict[str, Any], device: torch.device) -> FinetuneResult:
    with suppress(OSError):  # on another node: the paths that are left are absolute, or of the job's working directory
        os.chdir(config["cwd"])
    observe = ProgressSender(config["board"], config["prefix"])
    return finetune(config["job"], config["run"], device, observe, is_leaving=is_leaving, driver=config["driver"])


def dry_run_of_finetuning(job: FinetuneJob, resources: Resources) -> DryRun:
    """Two steps of a job's first run, on the workers that it would train on; nothing is written."""
    config = {"job": job, "cwd": str(Path.cwd())}
    with tempfile.TemporaryDirectory(prefix="reforge-dry-run-") as notes:
        start_if_none(resources)
        return DryRun(**run_group(job.scale, job.name, resources, _dry_run_worker, config, Path(notes)))


def _dry_run_worker(config: dict[str, Any]) -> dict[str, Any]:
    with suppress(OSError):
        os.chdir(config["cwd"])
    return asdict(dry_run_finetune(config["job"], get_device()))


def _run_in_group(
    members: Sequence[_Member],
    resources: Resources,
    keep: Callable[[_Member, FinetuneResult], None],
    fail: Callable[[_Member, str], None],
) -> None:
    """All runs of a job, one after the other in one group of workers: starting a group takes longer than most runs."""
    first = members[0].spec
    with ProgressReader(Progress(1) if len(members) == 1 else Lines()) as reader:
        config = {
            "jobs": [(member.spec, member.spec.folder.absolute(), f"{member.label}: ") for member in members],
            "board": reader.board,
            "cwd": str(Path.cwd()),
            "driver": DRIVER,
        }
        with tempfile.TemporaryDirectory(prefix="reforge-finetune-") as notes:
            marks = mark([("run.storage", first.run.folder)])
            group = (first.scale, first.name, resources, _finetune_worker, config, Path(notes), marks)
            answers = run_group(*group)["answers"]
    for member, answer in zip(members, answers, strict=True):
        if "user_error" in answer:
            fail(member, answer["user_error"])
        else:
            keep(member, FinetuneResult.from_json(answer))


def _finetune_worker(config: dict[str, Any]) -> dict[str, Any]:
    several = len(config["jobs"]) > 1
    answers = []
    for job, folder, label in config["jobs"]:
        one = {**config, "job": job, "run": folder, "prefix": label if several else ""}
        answers.append(_answer_of_group(one))
    return {"answers": answers}


def _answer_of_group(config: dict[str, Any]) -> dict[str, Any]:
    """A run's result; or what its user has to mend, which is raised on all workers and stops no other run."""
    try:
        earlier = result_of(config["job"])  # before a worker died and the group began anew
        return asdict(earlier or _finetune(config, get_device()))
    except Stopped:
        raise
    except UserError as error:
        return {"user_error": str(error)}
