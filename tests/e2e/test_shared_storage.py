"""A storage path that only the head can see, on a cluster of two nodes of which one has another folder there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reforge.distributed.shared_storage import Mark, check_workers, mark
from reforge.spec import UserError

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
RAY = Path(sys.executable).with_name("ray")
START_SECONDS = 240


def test_a_folder_is_known_by_what_lies_in_it_not_by_its_name(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    [one] = mark([("run.prepared", storage), ("run.storage", storage)])
    assert one == Mark("run.storage", storage, (storage / ".storage-id").read_text())
    assert mark([("run.storage", storage)]) == [one], "marked once and for all"
    assert one.trouble_here() == ""

    (storage / ".storage-id").rename(tmp_path / "kept")
    assert one.trouble_here() == "another folder lies there"
    (storage / ".storage-id").write_text("that of another")
    assert one.trouble_here() == "another folder lies there"
    (storage / ".storage-id").unlink()
    storage.rmdir()
    assert one.trouble_here() == "it is not there"
    storage.write_text("a file")
    assert one.trouble_here().startswith("it cannot be read: Not a directory")
    with pytest.raises(UserError, match=r"run\.storage: cannot write"):
        mark([("run.storage", storage)])


def test_the_message_names_node_and_path(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        check_workers([Mark("run.storage", tmp_path / "gone", "x")])
    node = os.uname().nodename
    assert f"run.storage {tmp_path / 'gone'} on node {node} (" in str(refused.value)
    assert "it is not there" in str(refused.value)


# Starts a head without CPUs and a node to which an empty disk hides the storage; then the job, as its user would.
TWO_NODES = """
import os, subprocess, sys, time
import ray
from ray.cluster_utils import Cluster

storage, ray_command, *job = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
start = f"mount -t tmpfs none {storage} && exec {ray_command} start --address={cluster.address} --num-cpus=2 --block"
node = subprocess.Popen(["unshare", "-m", "sh", "-c", start], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    cluster.connect()
    while len([one for one in ray.nodes() if one["Alive"]]) < 2:
        assert node.poll() is None, "the second node did not start"
        time.sleep(0.5)
    ended = subprocess.run(job, env={**os.environ, "RAY_ADDRESS": cluster.address})
finally:
    node.terminate()
    node.wait()
    ray.shutdown()
    cluster.shutdown()
sys.exit(ended.returncode)
"""


@pytest.mark.long
@pytest.mark.slow  # starts a cluster
def test_a_node_that_does_not_see_the_storage_is_named_before_anything_starts(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    storage = tmp_path / "runs"
    storage.mkdir()
    hidden = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {storage}"]
    if subprocess.run(hidden, capture_output=True).returncode:
        pytest.skip("a mount of its own needs rights that this user lacks")
    job = [sys.executable, "jobs/pretrain.py", str(TINY), *tiny_overrides, f"run.storage={storage}", "name=lost"]
    command = [sys.executable, "-c", TWO_NODES, str(storage), str(RAY), *job]
    patient = {**os.environ, "RAY_raylet_start_wait_time_s": str(START_SECONDS)}
    ended = subprocess.run(command, cwd=ROOT, env=patient, capture_output=True, text=True, timeout=3 * START_SECONDS)
    assert ended.returncode == 2, ended.stderr
    assert "not every node has the storage in common with the head" in ended.stderr
    assert f"run.storage {storage} on node {os.uname().nodename} (" in ended.stderr
    assert f"run.prepared {storage / '_prepared'} on node" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (storage / "lost").exists()
    assert sorted(entry.name for entry in (storage / "_prepared").iterdir()) == [".storage-id"]
