"""The cluster that a job runs on: one that is running, or one started on this machine for this job alone."""

import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import ray
import torch

from reforge.distributed.connection import cluster_total, connect
from reforge.distributed.private import start_private
from reforge.runs.job import ScaleOptions
from reforge.spec import Problem

# Beyond that a step of a size that trains on CPUs is spent on adding up gradients.
MOST_AUTO_CPU_WORKERS = 4


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs of a cluster, and how to name it in a message."""

    num_cpus: int
    num_gpus: int
    name: str


def find_resources() -> Resources:
    """What a job may use: the cluster at RAY_ADDRESS, which `ray job submit` sets, else this machine.

    Connects to the cluster, but starts none: a spec's mistakes are said before anything takes time. Without
    RAY_ADDRESS no running Ray is looked for: it may be another job's own, and would end with that job.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not ray.is_initialized():
        if address is None:
            return local_resources()
        connect(address)
    total = cluster_total()
    return Resources(int(total["CPU"]), int(total["GPU"]), "the Ray cluster")


def start_if_none(resources: Resources) -> None:
    """Start Ray on this machine with `resources`, unless this process is connected to a cluster already."""
    if not ray.is_initialized():
        start_private(resources.num_cpus, resources.num_gpus)


def start_importing(resources: Resources, module: str) -> None:
    """The same, while a thread imports what takes as long as Ray takes to start.

    Not the other way about: Ray's processes end with the thread that has started them.
    """
    importing = threading.Thread(target=import_module, args=(module,), name="reforge-import")
    importing.start()
    start_if_none(resources)
    importing.join()


def local_resources() -> Resources:
    """What this machine lets this process use: its CPU affinity and, in a container, its CPU quota are kept to."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Resources(int(min(cpus, cpu_quota())), torch.cuda.device_count(), "this machine")


def cpu_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """CPUs that the control group allows, rounded up; infinite where there is no limit or no control group."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota == "max" else math.ceil(int(quota) / int(period))


@dataclass(frozen=True)
class WorkerShape:
    """How many workers there are at most, what each gets, and how many there have to be."""

    num_workers: int
    cpus: int
    gpus: float
    least_workers: int

    @property
    def is_elastic(self) -> bool:
        """Whether their number may change."""
        return self.least_workers < self.num_workers


def worker_shape(scale: ScaleOptions, resources: Resources) -> WorkerShape:
    """`scale` with every `auto` resolved on `resources`."""
    one_if_any = 1.0 if resources.num_gpus else 0.0
    gpus = one_if_any if scale.gpus_per_worker == "auto" else scale.gpus_per_worker
    num_workers = _auto_workers(scale, gpus, resources) if scale.num_workers == "auto" else scale.most_workers
    equal_share = max(1, resources.num_cpus // num_workers)
    cpus = equal_share if scale.cpus_per_worker == "auto" else scale.cpus_per_worker
    least = scale.least_workers if isinstance(scale.num_workers, tuple) else num_workers
    return WorkerShape(num_workers, cpus, gpus, least)


def _auto_workers(scale: ScaleOptions, gpus: float, resources: Resources) -> int:
    if gpus:
        return max(1, int(resources.num_gpus / gpus))
    cpus_each = 1 if scale.cpus_per_worker == "auto" else scale.cpus_per_worker
    return max(1, min(MOST_AUTO_CPU_WORKERS, resources.num_cpus // cpus_each))


def fits(resources: Resources) -> Callable[[ScaleOptions], Iterable[Problem]]:
    """The rule that `scale` asks for no more than `resources` has; paths are those of a job spec."""

    def check(scale: ScaleOptions) -> Iterable[Problem]:
        shape = worker_shape(scale, resources)
        if shape.least_workers * shape.cpus > resources.num_cpus:
            each = "" if scale.cpus_per_worker == "auto" else f" of {shape.cpus} CPUs each"
            rule = f"workers{each} need at most the {resources.num_cpus} CPUs that {resources.name} has"
            yield Problem(("scale", "num_workers"), rule, scale.num_workers)
        if shape.least_workers * shape.gpus > resources.num_gpus:
            limit = f"at most the {resources.num_gpus} GPUs that {resources.name} has"
            rule = f"workers of {shape.gpus:g} GPUs each need {limit}"
            yield Problem(("scale", "num_workers"), rule, scale.num_workers)

    return check
