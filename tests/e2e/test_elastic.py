"""`scale.num_workers: [1, 2]` on two nodes: one gets notice, another comes, one is killed; the same batches always."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from reforge.runs import PretrainJob, RunFolder
from reforge.tracking import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.long]  # starts a cluster

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from raylets import RAY, Node, Raylets, raylets, title, wait_for  # noqa: E402

# Steps that hardly change the weights: what one order of adding up rounds differently stays small, and a batch that is
# left out or comes twice shows in the loss.
STEADY = (
    "model.attention=exact", "model.ff_dropout=0.0", "optimizer.schedule.kind=constant", "optimizer.lr=1e-5",
    "train.max_steps=100000", "train.checkpoint_every_steps=20", "train.eval_every_steps=100000",
)  # fmt: skip
# The job's own script, but for how often it looks for room.
IMPATIENT = """
import sys
from pathlib import Path
from reforge.distributed import command, train
train.RESIZE_EVERY_SECONDS = 4.0
sys.exit(command.pretrain_command(Path("tests/tiny.yaml"), sys.argv[1:]))
"""
NOTICE = ("drain-node", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    with raylets(2) as running:
        yield running


@contextmanager
def job(cluster: Raylets, log: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The job as a process; its words go to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, *words], cwd=ROOT, env=cluster.environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def give_notice(cluster: Raylets, node: Node) -> None:
    """What a cloud does before it takes a node away, and `jobs/clusters/watch_notices.sh` hands on."""
    node_id = re.findall(r"--node_id=(\w+)", title(node.raylet))[0]
    command = [RAY, *NOTICE, f"--node-id={node_id}", f"--address={cluster.address}"]
    subprocess.run(command, env=cluster.environment, check=True, capture_output=True)


def newest_step(folder: RunFolder) -> int:
    return max((int(path.name.partition("-")[2]) for path in folder.checkpoints.glob("step-*")), default=0)


def test_workers_leave_and_come_back_and_the_batches_stay(
    cluster: Raylets,
    tiny_overrides: list[str],
    tiny_job: Callable[..., PretrainJob],
    prepared_folder: Path,
    train_without_ray: Callable[[PretrainJob, Path], RunFolder],
    tmp_path: Path,
) -> None:
    folder, log = RunFolder(tiny_job("name=elastic").folder), tmp_path / "log"
    with job(cluster, log, *tiny_overrides, "name=elastic", "scale.num_workers=[1, 2]", *STEADY) as driver:

        def until(condition: Callable[[], bool], what: str) -> None:
            wait_for(lambda: condition() or driver.poll() is not None, what, 300)
            assert driver.poll() is None, log.read_text()

        def workers() -> list[int]:
            return [len(node.workers("RayTrainWorker")) for node in cluster.nodes]

        def trains_on(count: int) -> None:
            """Wait until a checkpoint is written by so many workers."""
            until(lambda: sum(workers()) == count, f"{count} workers")
            before = newest_step(folder)
            until(lambda: newest_step(folder) > before + 20, f"checkpoints of {count} workers")
            assert sum(workers()) == count

        trains_on(2)
        # The job's own process is of one of the nodes, or of the head: with that one it ends.
        at_home = next(node for node in [cluster.head, *cluster.nodes] if node.workers("TrainController"))
        other = [node for node in cluster.nodes if node is not at_home][-1]
        give_notice(cluster, other)
        noticed = time.time()
        until(lambda: "a node is about to go: stopped after step" in log.read_text(), "the notice")
        kept = (folder.checkpoints / f"step-{newest_step(folder):08d}").stat().st_mtime
        assert kept - noticed < 10
        trains_on(1)
        assert not other.workers("RayTrainWorker")
        with suppress(StopIteration):  # having nothing left to do, it may have ended by itself
            cluster.kill(other)
        added = cluster.add()
        trains_on(2)
        cluster.kill(added)
        trains_on(1)
        give_notice(cluster, at_home)
        assert driver.wait(60) == 130
    said = log.read_text()
    assert "Traceback" not in said
    assert said.count("training on 1 of at most 2 workers") == 2
    assert "a worker was lost" in said
    assert "this node is about to go" in said
    assert "the same command goes on from the newest checkpoint" in said

    last = newest_step(folder)
    undisturbed = train_without_ray(
        tiny_job("name=inelastic", *STEADY, f"train.stop_at_step={last}", "scale.num_workers=1"), prepared_folder
    )
    rows, others = ([row for row in read_metrics(f.metrics) if "train/loss" in row] for f in (folder, undisturbed))
    assert [row["step"] for row in rows] == list(range(1, last + 1))
    for row, other in zip(rows, others, strict=True):
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4), row["step"]
        assert row["train/lr"] == other["train/lr"]
        assert row["train/tokens_seen"] == other["train/tokens_seen"]


class Metadata(BaseHTTPRequestHandler):
    """A cloud's metadata service: the third time that it is asked, the instance is to go."""

    asked: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        self.answer(200, "a-token")

    def do_GET(self) -> None:
        self.asked.append(self.path)
        goes = len(self.asked) >= 3
        if self.path.endswith("spot/instance-action"):
            assert self.headers["X-aws-ec2-metadata-token"] == "a-token"
            self.answer(200 if goes else 404, '{"action": "terminate"}')
        else:
            assert self.headers["Metadata-Flavor"] == "Google"
            self.answer(200, "TRUE" if goes else "FALSE")

    def answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_clouds_notice_reaches_ray(cluster: Raylets, cloud: str) -> None:
    Metadata.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = ["sh", "jobs/clusters/watch_notices.sh", cloud, f"http://127.0.0.1:{server.server_port}"]
        path = f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"
        started = time.monotonic()
        told = subprocess.run(
            command, cwd=ROOT, env=cluster.environment | {"PATH": path}, capture_output=True, text=True, timeout=120
        )
        server.shutdown()
    assert told.returncode == 0, told.stderr
    assert len(Metadata.asked) == 3
    assert time.monotonic() - started > 6
    draining = "import ray; from reforge.distributed.leaving import draining_nodes; ray.init(); print(draining_nodes())"
    shown = subprocess.run(
        [sys.executable, "-c", draining], env=cluster.environment, capture_output=True, text=True, timeout=120
    )
    assert re.search(r"\{'[0-9a-f]{56}'", shown.stdout), shown.stdout + shown.stderr
