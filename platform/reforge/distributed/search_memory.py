"""What a trial's device has, and dry runs of trials on it; each in a process of its own."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError

from reforge.distributed.cluster import Resources, start_if_none
from reforge.distributed.crew import CrewShape
from reforge.loop import World
from reforge.loop.precision import has_bf16_units
from reforge.models import Device
from reforge.runs.build import memory_of_a_worker
from reforge.runs.dry_run import DryRun, dry_run, dry_run_finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.trial_job import TrialJob
from reforge.runs.trial_memory import TrialMemory
from reforge.runs.tune_job import TuneSearch
from reforge.spec import UserError

MEMORY_FILE = "memory.json"
GIB = 2**30


def memory_of_trials(search: TuneSearch, shape: CrewShape, at_once: int, resources: Resources) -> TrialMemory:
    """What each worker of a trial has."""
    file = search.options.folder / MEMORY_FILE
    return TrialMemory.of(trial_device(shape, resources), shape.gpus, at_once, shape.num_workers, file)


def trial_device(shape: CrewShape, resources: Resources) -> Device:
    """The device that trials train on: this machine's, or one of the cluster's GPUs."""
    if shape.gpus and not torch.cuda.is_available():
        start_if_none(resources)
        return Device(*ray.get(_look_at_gpu.options(num_gpus=min(1, shape.gpus)).remote()))
    return Device(*_device("cuda" if shape.gpus else "cpu"))


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]
def _look_at_gpu() -> tuple[str, int, int]:
    return _device("cuda")


def _device(kind: str) -> tuple[str, int, int]:
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    return kind, memory_of_a_worker(World(device=device)), 2 if has_bf16_units(device) else 4


def measure(
    jobs: Sequence[TrialJob],
    shape: CrewShape,
    resources: Resources,
    folder_of: Callable[[TrialJob], Path | None],
) -> list[DryRun | None]:
    """A dry run of each job, one after the other; None where it does not fit into what a trial has."""
    start_if_none(resources)
    runs: list[DryRun | None] = []
    for job in jobs:
        task = _dry_run.options(num_cpus=shape.cpus, num_gpus=min(1, shape.gpus))
        try:
            runs.append(ray.get(task.remote(job, folder_of(job), shape)))
        except (WorkerCrashedError, OutOfMemoryError):
            runs.append(None)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
    return runs


def fitted(memory: TrialMemory, jobs: Sequence[TrialJob], runs: Sequence[DryRun | None]) -> TrialMemory:
    """With what dry runs of these jobs measured."""
    for job, run in zip(jobs, runs, strict=True):
        if run is not None:
            memory = memory.with_run(job, run)
    return memory


# A process a job: the memory that an earlier one left to the allocator would be taken for this one's.
@ray.remote(max_calls=1, max_retries=0)  # type: ignore[untyped-decorator]
def _dry_run(job: TrialJob, prepared: Path | None, shape: CrewShape) -> DryRun | None:
    with suppress(OSError):
        os.chdir(shape.cwd)
    torch.set_num_threads(shape.cpus)
    device = torch.device("cuda", 0) if shape.gpus else torch.device("cpu")
    if 0 < shape.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(shape.gpus, device)
    try:
        if isinstance(job, FinetuneJob):
            return dry_run_finetune(job, device)
        assert prepared is not None
        return dry_run(job, prepared, device)
    except (torch.OutOfMemoryError, MemoryError):
        return None
