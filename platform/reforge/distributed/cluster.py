"""The cluster that a job runs on: one that is running, or one started on this machine for this job alone."""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ray
import torch

from reforge.runs.job import ScaleOptions
from reforge.spec import Problem

# Ray shares no large objects between our processes; its default takes 30 % of the memory and warns in small containers.
OBJECT_STORE_BYTES = 256 * 2**20

# Read by Ray when it starts. Progress reaches the driver through an actor, so the workers' log lines are not needed.
QUIET = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs of a cluster, and how to name it in a message."""

    num_cpus: int
    num_gpus: int
    name: str


def connect() -> Resources:
    """Connect to the running cluster (RAY_ADDRESS, or one of `ray start` here), or start one on this machine."""
    if not ray.is_initialized():
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), **_common())
        except ConnectionError:
            if "RAY_ADDRESS" in os.environ:
                raise
            ray.init(
                address="local",
                num_cpus=local_resources().num_cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **_common(),
            )
    total = ray.cluster_resources()
    return Resources(int(total.get("CPU", 0)), int(total.get("GPU", 0)), "the Ray cluster")


def _common() -> dict[str, object]:
    return {"logging_level": logging.ERROR, "log_to_driver": False}


def local_resources() -> Resources:
    """What this machine lets this process use."""
    return Resources(len(os.sched_getaffinity(0)), torch.cuda.device_count(), "this machine")


@dataclass(frozen=True)
class WorkerShape:
    """What each worker gets."""

    num_workers: int
    cpus: int
    gpus: float


def worker_shape(scale: ScaleOptions, resources: Resources) -> WorkerShape:
    """`scale` with every `auto` resolved on `resources`."""
    gpus = scale.gpus_per_worker
    if gpus == "auto":
        gpus = 1 if resources.num_gpus else 0
    cpus = scale.cpus_per_worker
    if cpus == "auto":
        cpus = max(1, resources.num_cpus // scale.num_workers)
    return WorkerShape(scale.num_workers, cpus, gpus)


def fits(resources: Resources) -> Callable[[ScaleOptions], Iterable[Problem]]:
    """The rule that `scale` asks for no more than `resources` has; paths are those of a job spec."""

    def check(scale: ScaleOptions) -> Iterable[Problem]:
        shape = worker_shape(scale, resources)
        if shape.num_workers * shape.cpus > resources.num_cpus:
            each = "" if scale.cpus_per_worker == "auto" else f" of {shape.cpus} CPUs each"
            rule = f"workers{each} need at most the {resources.num_cpus} CPUs that {resources.name} has"
            yield Problem(("scale", "num_workers"), rule, scale.num_workers)
        if shape.num_workers * shape.gpus > resources.num_gpus:
            limit = f"at most the {resources.num_gpus} GPUs that {resources.name} has"
            rule = f"workers of {shape.gpus:g} GPUs each need {limit}"
            yield Problem(("scale", "num_workers"), rule, scale.num_workers)

    return check
