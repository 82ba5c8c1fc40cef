"""Small trainings on a cluster of a head and two nodes, in which something is killed at random, for a given time.

    .venv/bin/python benchmarks/chaos.py --minutes 5
    .venv/bin/python benchmarks/chaos.py --minutes 60 --seed 2 --faults worker=3 raylet=1 driver=1 --json chaos.json

Each run is a two-layer Reformer on two workers, one on each node; a job that nothing happens to is timed first, and is
what all others are compared with. kill -9 hits a worker, a raylet (with its node; another node comes in its place) or
the driver (the same command is given again).

What has to be 0 (else the exit code is 1): steps whose samples were lost, taken twice or others, which shows in the
loss of each step and in the weights at the end, bit for bit; processes and placement groups that are left.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from raylets import Raylets, raylets, title, wait_for

ROOT = Path(__file__).parents[1]
FAULTS = {"worker": 4, "raylet": 2, "driver": 1}
STEP_LIMIT_SECONDS, END_SECONDS = 600.0, 60.0
MARK = "REFORGE_CHAOS"
SPEC = """
kind: pretrain
name: chaos
data: {corpus: {kind: text, path: corpus.txt, documents_by: blank_line}, block_tokens: 32, valid_fraction: 0.1}
tokenizer: {kind: wordpiece, vocab_size: 600}
model: {kind: reformer, d_model: 32, depth: 2, num_heads: 2, bucket_size: 8, num_hashes: 2, ff_dropout: 0.1}
objective: {kind: mlm}
optimizer: {lr: 3.0e-3, schedule: {kind: linear, warmup_steps: 4}}
train: {global_batch_tokens: 256, micro_batch_tokens: 64, precision: fp32, log_every_steps: 1, eval_blocks: 12}
scale: {num_workers: 2, cpus_per_worker: 1, max_failures: 1000, hang_timeout: 1m}
"""
GROUPS = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
groups = ray.util.placement_group_table().values()
print(json.dumps([group["placement_group_id"] for group in groups if group["state"] != "REMOVED"]))
"""


@dataclass
class Count:
    """What happened. wrong_steps: whose loss is missing, there twice or another than without faults"""

    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    recovery_seconds: list[float] = field(default_factory=list)
    seconds_lost: float = 0.0
    wrong_steps: int = 0
    other_weights: int = 0
    failed_runs: int = 0
    processes: int = 0
    placement_groups: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether all that has to be 0 is, and every fault was got over."""
        broken = self.wrong_steps + self.other_weights + self.failed_runs + self.processes + self.placement_groups
        return broken == 0 and self.recoveries == self.faults.total()


class Run:
    """A training on the cluster, by the command that its user would give."""

    def __init__(self, cluster: Raylets, folder: Path, name: str, num_steps: int) -> None:
        self.cluster, self.folder = cluster, folder / "runs" / name
        steps = (f"train.max_steps={num_steps}", f"train.eval_every_steps={num_steps // 4}")
        words = [f"name={name}", f"run.storage={folder / 'runs'}", *steps, "train.checkpoint_every_steps=20"]
        self.command = [sys.executable, "jobs/pretrain.py", str(folder / "spec.yaml"), *words]
        self.errors = folder / f"{name}.txt"
        self.began = time.monotonic()
        self.start()

    def start(self) -> None:
        """Give the command."""
        with self.errors.open("ab") as told:
            self.driver = subprocess.Popen(
                self.command, cwd=ROOT, env=self.cluster.environment, stdout=told, stderr=told
            )

    def rows(self) -> list[dict[str, float]]:
        """The figures of each step; the newest may be half written."""
        file = self.folder / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    @property
    def step(self) -> int:
        """The newest that is logged."""
        rows = self.rows()
        return int(rows[-1]["step"]) if rows else 0

    @property
    def is_over(self) -> bool:
        """Whether the driver has ended."""
        return self.driver.poll() is not None

    @property
    def writer(self) -> str:
        """The process that writes the run; each group of workers has another."""
        return (self.folder / ".lock").read_text(encoding="utf-8")

    def wait_beyond(self, step: int) -> None:
        """Until a later step is logged, or the run is over."""
        wait_for(lambda: self.step > step or self.is_over, f"step {step + 1}", STEP_LIMIT_SECONDS)

    def wait_for_others(self, writer: str) -> None:
        """Until another group than that of `writer` trains, or the run is over."""
        lock, figures = self.folder / ".lock", self.folder / "metrics.jsonl"

        def trains() -> bool:
            return self.writer not in ("", writer) and figures.stat().st_mtime > lock.stat().st_mtime

        wait_for(lambda: trains() or self.is_over, "another group of workers", STEP_LIMIT_SECONDS)

    def kill(self, fault: str, draw: random.Random) -> None:
        """Kill -9 of something; what nobody but a person would do, start the next node or driver, is done as well."""
        if fault == "driver":
            self.driver.kill()
            self.driver.wait()
            self.start()
        elif fault == "raylet":
            self.cluster.kill(draw.choice(self.cluster.nodes))
            self.cluster.add()
        else:
            workers = [pid for node in self.cluster.nodes for pid in node.workers("RayTrainWorker")]
            os.kill(draw.choice(workers), signal.SIGKILL)

    def end(self) -> float:
        """Seconds from the first command to the end of the last."""
        self.driver.wait(STEP_LIMIT_SECONDS)
        return time.monotonic() - self.began


def compare(run: Run, undisturbed: Run, count: Count) -> None:
    """Count what differs from the run that nothing happened to."""
    expected = [(row["step"], row["train/loss"]) for row in undisturbed.rows()]
    found = Counter((row["step"], row["train/loss"]) for row in run.rows())
    count.wrong_steps += sum((found - Counter(expected)).values()) + sum((Counter(expected) - found).values())
    count.failed_runs += not (run.folder / "result.json").exists()
    weights = [one.folder / "model.safetensors" for one in (run, undisturbed)]
    count.other_weights += not weights[0].exists() or weights[0].read_bytes() != weights[1].read_bytes()


def disturb(run: Run, weights: dict[str, int], draw: random.Random, count: Count, num_steps: int) -> None:
    """Kill something at random steps until the run is nearly over."""
    while True:
        goal = run.step + draw.randrange(5, max(6, num_steps // 3))
        if goal > num_steps - 10:
            return
        run.wait_beyond(goal)
        if run.is_over:
            return
        [fault] = draw.choices(list(weights), list(weights.values()))
        step, writer, began = run.step, run.writer, time.monotonic()
        run.kill(fault, draw)
        count.faults[fault] += 1
        run.wait_for_others(writer)
        count.recoveries += not run.is_over or (run.folder / "result.json").exists()
        count.recovery_seconds.append(time.monotonic() - began)
        print(f"{run.folder.name}: {fault} killed at step {step}, {count.recovery_seconds[-1]:.1f} s", flush=True)


@contextmanager
def ended_in_any_case(run: Run) -> Iterator[None]:
    """A run that stands still is killed, and counts as one that failed."""
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired) as error:
        print(f"{run.folder.name}: {error}", flush=True)
    if not (run.folder / "result.json").exists():
        print(run.errors.read_text(encoding="utf-8"), flush=True)
    run.driver.kill()
    run.driver.wait()


def left_behind(cluster: Raylets) -> list[str]:
    """What works on the cluster though no job runs."""
    return [words for node in [cluster.head, *cluster.nodes] for words in node.at_work]


def settle(cluster: Raylets, count: Count) -> None:
    """Count what is left on the cluster a while after a job."""
    with suppress(AssertionError):
        wait_for(lambda: not left_behind(cluster), "the job's processes to end", END_SECONDS)
    found = left_behind(cluster)
    count.processes += len(found)
    asked = subprocess.run(
        [sys.executable, "-c", GROUPS], env=cluster.environment, capture_output=True, text=True, check=True
    )
    groups = json.loads(asked.stdout.splitlines()[-1])
    count.placement_groups += len(groups)
    for line in [*found, *groups]:
        print(f"left: {line}", flush=True)


def marked() -> Iterator[int]:
    """Processes that came from here, wherever they are now."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def chaos(options: argparse.Namespace, folder: Path) -> Count:
    """Runs with faults until the time is over."""
    from pydoc_data.topics import topics

    (folder / "corpus.txt").write_text("\n\n".join(topics[name] for name in sorted(topics)[:30]), encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC.replace("corpus.txt", str(folder / "corpus.txt")), encoding="utf-8")
    draw, count, weights = random.Random(options.seed), Count(), dict(options.faults)
    with raylets(2) as cluster:
        for name in ("prepares", "undisturbed"):  # the first prepares the corpus, which the others find
            undisturbed = Run(cluster, folder, name, options.steps)
            seconds = undisturbed.end()
        print(f"undisturbed: {seconds:.1f} s for {options.steps} steps", flush=True)
        settle(cluster, count)
        deadline = time.monotonic() + 60 * options.minutes
        while time.monotonic() < deadline:
            run = Run(cluster, folder, f"run-{count.runs}", options.steps)
            with ended_in_any_case(run):
                disturb(run, weights, draw, count, options.steps)
                count.seconds_lost += run.end() - seconds
            count.runs += 1
            compare(run, undisturbed, count)
            settle(cluster, count)
    with suppress(AssertionError):
        wait_for(lambda: not list(marked()), "processes to end", END_SECONDS)
    for pid in marked():
        count.processes += 1
        print(f"left: {title(pid)}", flush=True)
    return count


def show(count: Count) -> None:
    """The table."""
    faults, lost = count.faults.total(), count.recovery_seconds
    kinds = ", ".join(f"{number} {fault}" for fault, number in sorted(count.faults.items()))
    print(f"\nruns                        {count.runs}")
    print(f"faults                      {faults} ({kinds})")
    print(f"recoveries                  {count.recoveries}")
    print(f"seconds until it goes on    {sum(lost) / max(1, len(lost)):.1f} (most: {max(lost, default=0):.1f})")
    print(f"seconds lost a fault        {count.seconds_lost / max(1, faults):.1f}")
    print(f"steps lost, twice or other  {count.wrong_steps}")
    print(f"runs with other weights     {count.other_weights}")
    print(f"runs that failed            {count.failed_runs}")
    print(f"processes left              {count.processes}")
    print(f"placement groups left       {count.placement_groups}")


def share(words: str) -> tuple[str, int]:
    """`worker=3` as its two parts."""
    fault, _, number = words.partition("=")
    if fault not in FAULTS or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{words}: one of {', '.join(FAULTS)}, =, and how often against the others")
    return fault, int(number)


def main(arguments: Sequence[str] | None = None) -> Count:
    """What happened in the given time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300, help="of each run")
    parser.add_argument("--faults", type=share, nargs="+", default=list(FAULTS.items()), metavar="FAULT=SHARE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    os.environ[MARK] = str(os.getpid())
    with tempfile.TemporaryDirectory(prefix="reforge-chaos-") as name:
        count = chaos(options, Path(name))
    show(count)
    if options.json:
        options.json.write_text(json.dumps(vars(count), indent=1) + "\n", encoding="utf-8")
    return count


if __name__ == "__main__":
    sys.exit(not main().is_clean)
