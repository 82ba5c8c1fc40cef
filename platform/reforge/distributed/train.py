"""Pre-training under Ray Train: the same `runs.pretrain` in every worker of a data-parallel group."""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import get_device

from reforge.corpora.place import is_remote
from reforge.distributed.arguments import say
from reforge.distributed.cluster import Resources, WorkerShape, worker_shape
from reforge.distributed.leaving import has_notice, is_leaving, watching
from reforge.distributed.progress import ProgressReader, ProgressSender
from reforge.distributed.regrouping import Announcements, StepsEndFirst
from reforge.distributed.shared_storage import Mark, check_workers, mark
from reforge.distributed.stopping import in_thread, stoppable
from reforge.distributed.trainer import MeetingConfig, Trainer
from reforge.loop import StepReport
from reforge.runs import DryRun, PretrainJob, PretrainResult, dry_run, pretrain
from reforge.runs.job import ScaleOptions
from reforge.runs.stop_request import Leaving, Stopped
from reforge.spec import UserError
from reforge.tracking import Progress

# How often it is looked whether there is room for more workers. Forming another group takes some 20 s.
RESIZE_EVERY_SECONDS = 60.0
# Room that is there is given in a second or two; where it is not, the number of workers is thought over.
START_SECONDS = 20.0
# This process, to workers of a run that it has started before.
DRIVER = uuid.uuid4().hex


def train_on_ray(job: PretrainJob, prepared_folder: Path, resources: Resources) -> PretrainResult:
    """Train `job` to its end on a group of Ray workers and give the finished run's figures.

    A worker that dies is replaced, with all others, from the newest complete checkpoint, `scale.max_failures` times.
    """
    with ProgressReader(Progress(job.train.max_steps)) as reader:
        config = {
            "job": job,
            "run": job.folder.resolve(),  # a worker's own working directory is another one
            "prepared": prepared_folder.resolve(),
            "board": reader.board,
            "driver": DRIVER,
        }
        marks = mark([("run.storage", job.run.folder), ("run.prepared", job.run.prepared_root)])
        with notes_folder(job) as notes, stoppable(lambda: [job.folder.resolve()]):
            answer = run_group(job.scale, job.name, resources, _pretrain_worker, config, notes, marks)
    return PretrainResult.from_json(answer)


@contextmanager
def notes_folder(job: PretrainJob) -> Iterator[Path]:
    """Where Ray keeps its own: beside the run or, where that is in a store, for the time being on this machine."""
    if not is_remote(job.folder):
        yield job.run.folder.resolve() / "_ray"
        return
    with tempfile.TemporaryDirectory(prefix="reforge-ray-") as name:
        yield Path(name)


def dry_run_on_ray(job: PretrainJob, prepared_folder: Path, resources: Resources) -> DryRun:
    """Take two steps of `job` on the workers that it would train on."""
    config = {"job": job, "prepared": prepared_folder.resolve()}
    with tempfile.TemporaryDirectory(prefix="reforge-dry-run-") as notes:
        return DryRun(**run_group(job.scale, job.name, resources, _dry_run_worker, config, Path(notes)))


def run_group(
    scale: ScaleOptions,
    name: str,
    resources: Resources,
    work: Callable[[dict[str, Any]], dict[str, Any]],
    config: dict[str, Any],
    notes: Path,
    marks: Sequence[Mark] = (),
) -> dict[str, Any]:
    """Run `work` on a group of workers; the first one's answer. A UserError in the workers is raised here.

    A group that has to leave, because a node is about to go, is followed by another. Raises KeyboardInterrupt where the
    workers were asked to stop and have.
    `notes` is where Ray keeps its own; our checkpoints, which it does not know, are in the run's folder. `marks` are of
    the folders that every worker must see.
    """
    shape = worker_shape(scale, resources)
    loop_config = {"work": work, "config": config, "cpus": shape.cpus, "marks": marks}
    board = config.get("board")
    tell_controller(scale)
    while True:
        callbacks = [StepsEndFirst(), *([Announcements(board, shape.num_workers)] if board else [])]
        failures = FailureConfig(max_failures=scale.max_failures)
        trainer = Trainer(
            partial(_catching_user_errors, loop_config),  # given as a config it would go to the controller as well
            backend_config=MeetingConfig(backend="nccl" if shape.gpus else "gloo", timeout_s=scale.hang_seconds),
            scaling_config=scaling(shape),
            run_config=RunConfig(storage_path=str(notes), name=name, failure_config=failures, callbacks=callbacks),
        )
        # In the main thread Ray Train would take Ctrl-C over, and end the workers where they are.
        answer = in_thread(partial(_fit, trainer))
        if "leaving" not in answer or has_notice():  # this process goes with its node
            return checked(answer)
        say(f"a node is about to go: {answer['leaving']}; going on without it")


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """What the workers answered; raises what ended them before their time."""
    for word in ("stopped", "leaving"):
        if word in answer:
            say(answer[word])
            raise KeyboardInterrupt
    if "user_error" in answer:
        raise UserError(answer["user_error"])
    return answer


def _fit(trainer: Trainer) -> dict[str, Any]:
    answer: dict[str, Any] = trainer.fit().return_value
    return answer


def scaling(shape: WorkerShape) -> ScalingConfig:
    """How many workers of what size Ray Train starts."""
    return ScalingConfig(
        num_workers=(shape.least_workers, shape.num_workers) if shape.is_elastic else shape.num_workers,
        use_gpu=shape.gpus > 0,
        resources_per_worker={"CPU": shape.cpus, **({"GPU": shape.gpus} if shape.gpus else {})},
        elastic_resize_monitor_interval_s=RESIZE_EVERY_SECONDS,
    )


def tell_controller(scale: ScaleOptions) -> None:
    """Set what Ray Train's controller takes from the environment of whoever starts it, and from nowhere else."""
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(scale.hang_seconds)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(START_SECONDS)
    # It would count a run that ends early for a node's sake as finished; and it delays every start.
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"


def _catching_user_errors(config: dict[str, Any]) -> dict[str, Any]:
    # What a user has to mend would fail again in the same way: it must not use up the retries.
    torch.set_num_threads(config["cpus"])
    try:
        check_workers(config["marks"])
        with watching():
            answer: dict[str, Any] = config["work"](config["config"])
    except Stopped as stopped:
        return {"stopped": str(stopped)}
    except Leaving as leaving:
        return {"leaving": str(leaving)}
    except UserError as error:
        return {"user_error": str(error)}
    return answer


def _pretrain_worker(config: dict[str, Any]) -> dict[str, Any]:
    def on_report(report: StepReport) -> None:
        if report.valid:  # a report waits for all workers and for Ray's next look: not at every step
            ray.train.report({"step": report.step, "loss": report.loss, **report.valid})

    observe = ProgressSender(config["board"])
    where = config["run"], config["prepared"], get_device()
    return asdict(pretrain(config["job"], *where, observe, on_report, is_leaving, config["driver"]))


def _dry_run_worker(config: dict[str, Any]) -> dict[str, Any]:
    return asdict(dry_run(config["job"], config["prepared"], get_device()))
