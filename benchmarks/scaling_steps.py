"""Steps of one real job in several ways, each in a fresh process: without Ray, on Ray workers, and what DDP sends.

    plain 1     `runs.pretrain` in one process            Ray 1    the same under Ray Train, one worker
    plain 2     two processes of torch.distributed        Ray 2    the same under Ray Train, two workers

A step's seconds are those between two rows of metrics.jsonl: data, forward, backward, all-reduce, optimizer, and what
is written and reported of it.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timing import in_child

from reforge.batches import open_prepared, prepare
from reforge.distributed.cluster import Resources
from reforge.distributed.private import start_private
from reforge.distributed.train import train_on_ray
from reforge.loop import World
from reforge.loop.precision import autocast
from reforge.loop.train import gradients_kept_local, inputs_of, settle, wrap
from reforge.runs import PretrainJob, pretrain
from reforge.runs.build import build_data, build_state, resolve_model
from reforge.runs.tracker import SECONDS
from reforge.spec import load_source, validate
from reforge.tracking import read_metrics

SPEC = Path(__file__).parents[1] / "jobs" / "specs" / "quickstart.yaml"
CPU = torch.device("cpu")
NAMES = ("plain 1", "Ray 1", "plain 2", "Ray 2")
NICENESS = "RAY_worker_niceness"
# Reading, caches, and DDP's own first steps.
LEFT_OUT = 5


@dataclass(frozen=True)
class Workload:
    """A job to be stepped. overrides: of jobs/specs/quickstart.yaml"""

    folder: Path
    num_steps: int
    threads: int
    overrides: tuple[str, ...]

    def job(self, name: str, num_workers: int) -> PretrainJob:
        """The job under a name of its own: nothing but steps, and one evaluation at the end."""
        steps = self.num_steps + LEFT_OUT
        few = [f"train.max_steps={steps}", f"train.eval_every_steps={steps}", f"train.checkpoint_every_steps={steps}"]
        scale = [f"scale.num_workers={num_workers}", f"scale.cpus_per_worker={self.threads}"]
        kept = [f"name={name}", f"run.storage={self.folder}", "train.log_every_steps=1", "train.eval_blocks=8"]
        return validate(PretrainJob, load_source(SPEC, [*self.overrides, *few, *scale, *kept]))


def prepared_folder(load: Workload) -> Path:
    """The corpus, prepared once."""
    job = load.job("prepare", 1)
    return prepare(job.data, job.tokenizer, job.run.prepared_root, lambda line: None).folder


def step_seconds(load: Workload, name: str, prepared: Path) -> list[float]:
    """Seconds of the counted steps of one way, in processes of its own."""
    num_workers = int(name[-1])
    run = f"{name.replace(' ', '-')}-{time.time_ns()}"
    with_ray = name.startswith("Ray")
    in_child(on_ray if with_ray else without_ray, load, run, num_workers, prepared)
    moments = [row[SECONDS] for row in read_metrics(load.job(run, num_workers).folder / "metrics.jsonl")]
    # The last row is after the evaluation.
    return [late - early for early, late in pairwise(moments[LEFT_OUT - 1 : -1])]


def on_ray(load: Workload, run: str, num_workers: int, prepared: Path) -> None:
    """The job as `jobs/pretrain.py` trains it, on a Ray of its own."""
    os.environ[NICENESS] = "0"  # 15 by default, with which a busy machine would be measured
    resources = Resources(num_workers * load.threads, 0, "this machine")
    start_private(resources.num_cpus, 0)
    train_on_ray(load.job(run, num_workers), prepared, resources)


def without_ray(load: Workload, run: str, num_workers: int, prepared: Path) -> None:
    """The job in processes that torch starts, or in this one."""
    job = load.job(run, num_workers)
    if num_workers == 1:
        train_plain(0, job, load.threads, prepared, "")
        return
    in_processes(train_plain, num_workers, job, load.threads, prepared)


def in_processes(work: Callable[..., None], num_workers: int, *arguments: Any) -> None:
    """Run `work(rank, *arguments, file of the meeting)` in so many processes that form a group."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        mp.start_processes(work, (*arguments, meeting), nprocs=num_workers, start_method="spawn")


def train_plain(rank: int, job: PretrainJob, threads: int, prepared: Path, meeting: str) -> None:
    """One process of a job without Ray."""
    enter(rank, job.scale.most_workers, threads, meeting)
    pretrain(job, job.folder, prepared, CPU)


def enter(rank: int, size: int, threads: int, meeting: str) -> None:
    """Become one of a group."""
    torch.set_num_threads(threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)


@dataclass(frozen=True)
class Sent:
    """What two processes send a step, and how much of it waits.

    gradient_bytes: of all trainable parameters; bucket_bytes: of each of DDP's buckets
    together, local, alone: seconds of forward and backward with the all-reduce, without, and of it alone
    """

    gradient_bytes: int
    bucket_bytes: list[int]
    together: float
    local: float
    alone: float

    @property
    def hidden(self) -> float:
        """The share of the all-reduce's time by which a backward pass does not get longer."""
        return 1 - (self.together - self.local) / self.alone


def sent(load: Workload, prepared: Path, repeats: int) -> Sent:
    """Measure it in two processes, one way after the other in turns."""
    job, file = load.job("sent", 2), load.folder / f"sent-{time.time_ns()}.json"
    in_processes(measure_sent, 2, job, load.threads, prepared, repeats, file)
    return Sent(**json.loads(file.read_text()))


def measure_sent(
    rank: int, job: PretrainJob, threads: int, prepared_in: Path, repeats: int, file: Path, meeting: str
) -> None:
    """One of the two processes; the first writes what was found."""
    enter(rank, 2, threads, meeting)
    world, prepared = World.current(CPU), open_prepared(prepared_in, job.data, job.run.shard_cache)
    state = build_state(job, prepared, CPU, resolve_model(job, prepared.tokenizer.get_vocab_size(), world)[0])
    data, model = build_data(prepared), wrap(state.model, world)
    settle(model, state, data, world)
    rows = data.train.rows_at(state.seed, 0, job.train.global_batch)
    inputs = inputs_of(rows, state, data, job.train, world)

    def passes(keep_local: bool) -> None:
        for number, part in enumerate(inputs, start=1):
            with gradients_kept_local(model, keep_local or number < len(inputs)):
                with autocast(job.train.precision, CPU):
                    scores = model(**part.to(CPU).tensors)
                torch.autograd.backward(torch.stack(list(scores.losses.values())).sum())

    for _ in range(3):  # DDP says what it sends after some passes
        passes(keep_local=False)
    buckets = [int(size) for size in model._get_ddp_logging_data()["rebuilt_bucket_sizes"].split(",")]  # type: ignore
    flats = [torch.zeros(size // 4) for size in buckets]
    ways = {
        "together": lambda: passes(keep_local=False),
        "local": lambda: passes(keep_local=True),
        "alone": lambda: [dist.all_reduce(flat) for flat in flats],
    }
    seconds = {name: statistics.median(times) for name, times in slower_of_two(ways, repeats).items()}
    if rank == 0:
        gradients = [p.grad for p in state.model.parameters() if p.requires_grad and p.grad is not None]
        total = sum(gradient.numel() * gradient.element_size() for gradient in gradients)
        file.write_text(json.dumps({"gradient_bytes": total, "bucket_bytes": buckets, **seconds}))


def slower_of_two(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Sequence[float]]:
    """Seconds of each way, in turns, begun by all processes at once and over when the last is."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, work in ways.items():
            dist.barrier()
            began = time.perf_counter()
            work()
            longest = torch.tensor([time.perf_counter() - began])
            dist.all_reduce(longest, op=dist.ReduceOp.MAX)
            if number:  # the first round warms up
                times[name].append(longest.item())
    return dict(times)
