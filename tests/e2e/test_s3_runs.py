"""A run in a bucket, trained on a cluster whose nodes have no disk in common: one is lost, the job is stopped."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from reforge.runs import PretrainJob, RunFolder
from reforge.runs.mirror import complete_checkpoints
from reforge.runs.store import LOCK, Store
from reforge.runs.working_copy import folder_here

pytestmark = [pytest.mark.slow, pytest.mark.long]  # starts a cluster

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
sys.path.insert(0, str(ROOT / "benchmarks"))

from raylets import Raylets, raylets, wait_for  # noqa: E402

LONG = ("train.max_steps=160", "train.checkpoint_every_steps=10", "train.eval_every_steps=40", "scale.max_failures=10")
CACHE = Path(".cache/reforge/shards/runs")
SECONDS = 600.0


@pytest.fixture
def cluster(s3: Any, tmp_path: Path) -> Iterator[Raylets]:
    """A head without CPUs and two nodes of one, each with a home of its own."""
    with raylets(0) as running:
        for number in (1, 2):
            running.add(HOME=str(tmp_path / f"node-{number}"))
        yield running


@contextmanager
def started(cluster: Raylets, words: list[str]) -> "Iterator[subprocess.Popen[str]]":
    """The job's command, which does not outlive the block."""
    command = [sys.executable, "jobs/pretrain.py", str(TINY), *words]
    pipe = subprocess.PIPE
    driver = subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=pipe, stderr=pipe, text=True)
    try:
        yield driver
    finally:
        driver.kill()
        with suppress(ValueError):  # all has been read
            driver.communicate()


def wait_for_step(store: Store, driver: "subprocess.Popen[str]", step: int) -> None:
    def is_there() -> bool:
        time.sleep(0.2)
        found = complete_checkpoints(store.names("checkpoints"))
        return driver.poll() is not None or (bool(found) and found[-1] >= f"step-{step:08d}")

    wait_for(is_there, f"step {step}", SECONDS)
    if driver.poll() is not None:
        pytest.fail("\n".join(["the driver has ended", *driver.communicate()]))


def test_nodes_without_a_disk_in_common_train_into_a_bucket(
    cluster: Raylets,
    tiny_job: Callable[..., PretrainJob],
    tiny_overrides: list[str],
    prepared_folder: Path,
    train_without_ray: Callable[[PretrainJob, Path], RunFolder],
    tmp_path: Path,
    s3: Any,
) -> None:
    s3.mkdir("cluster")
    undisturbed = train_without_ray(tiny_job("name=undisturbed-in-a-bucket", *LONG), prepared_folder)
    words = ["name=run", *LONG, "run.storage=s3://cluster/runs", f"run.prepared={prepared_folder.parent}"]
    job = tiny_job(*words)
    store = Store(job.folder)

    with started(cluster, [*tiny_overrides, *words]) as driver:
        wait_for_step(store, driver, 20)
        writer = next(node for node in cluster.nodes if any(str(pid) in str(store.read(LOCK)) for pid in workers(node)))
        cluster.kill(writer)
        cluster.add(HOME=str(tmp_path / "node-3"))
        wait_for_step(store, driver, 60)
        assert len(list(tmp_path.glob(f"node-*/{folder_here(job.folder, CACHE)}"))) == 3, "each node has its own"
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 130, err
    assert "stopped after step" in err
    assert store.read(LOCK) is None

    with started(cluster, [*tiny_overrides, *words]) as driver:
        out, err = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, err
    assert "Traceback" not in out + err
    assert "going on from step" in err
    assert "s3://cluster/runs/run" in out
    assert RunFolder(job.folder).weights.read_bytes() == undisturbed.weights.read_bytes()
    assert store.read(LOCK) is None
    left = list(tmp_path.glob(f"node-*/{folder_here(job.folder, CACHE)}"))
    assert len(left) == 1, "that of the node that was lost"


def workers(node: Any) -> list[int]:
    found: list[int] = node.workers("RayTrainWorker")
    return found
