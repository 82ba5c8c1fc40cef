"""A Ray cluster of several nodes on this machine, each in processes of its own, which can be killed one by one.

head: GCS, a raylet without CPUs      nodes: a raylet of one CPU each, on which the workers of a job run
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ray.util import get_node_ip_address

RAY = Path(sys.executable).with_name("ray")
OBJECT_STORE_BYTES = 100 * 2**20
STARTED = "Ray runtime started."
START_SECONDS, END_SECONDS = 240.0, 30.0
# Ray Train looks at tiny jobs too seldom; and its workers step back (nice 15) for whatever else a machine does.
QUICK = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_worker_niceness": "0"}
# What Ray keeps: processes without work, those of the nodes themselves, and one for all trainings of a cluster.
OF_RAY = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::_AutoscalingCoordinatorActor")


@dataclass
class Node:
    """A node of the cluster. process: `ray start --block`, whose children the node's processes are"""

    process: "subprocess.Popen[bytes]"

    @property
    def raylet(self) -> int:
        """The raylet's process."""
        return next(pid for pid in below(self.process.pid) if program(pid) == "raylet")

    @property
    def gcs(self) -> int:
        """The head's own process: what the cluster knows."""
        return next(pid for pid in below(self.process.pid) if program(pid) == "gcs_server")

    def workers(self, name: str) -> list[int]:
        """The processes in which an actor or a task of that name runs here, as Ray titles them."""
        return [pid for pid in below(self.process.pid) if title(pid).startswith(f"ray::{name}")]

    @property
    def at_work(self) -> list[str]:
        """What works here for a job, as Ray titles the processes."""
        titles = [title(pid) for pid in below(self.process.pid)]
        return [words for words in titles if words.startswith("ray::") and not words.startswith(OF_RAY)]

    def kill(self) -> None:
        """Kill -9 of the raylet: its workers end by themselves, and so does what else the node has."""
        os.kill(self.raylet, signal.SIGKILL)
        self.process.wait(END_SECONDS)


class Raylets:
    """A cluster that runs.

    environment: of a process that is to use it
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        shared = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._environment = {**shared, **QUICK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.nodes: list[Node] = []
        self._number = 0
        self.head = self.start_head()

    @property
    def address(self) -> str:
        """The head's, as RAY_ADDRESS has it."""
        return f"{get_node_ip_address()}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """That of a process which uses the cluster."""
        return {**self._environment, "RAY_ADDRESS": self.address}

    def start_head(self) -> Node:
        """The head, at the same address whenever it is started."""
        ports = (f"--port={self.port}", f"--ray-client-server-port={free_port()}")
        self.head = self._start(
            "--head", *ports, "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"
        )
        return self.head

    def add(self, **environment: str) -> Node:
        """A node more. environment: of its processes, beside what all have"""
        node = self._start(f"--address={self.address}", "--num-cpus=1", **environment)
        self.nodes.append(node)
        return node

    def kill(self, node: Node) -> None:
        """Kill -9 of a node's raylet."""
        self.nodes.remove(node)
        node.kill()

    def kill_head(self) -> None:
        """Kill -9 of the head's own process and its raylet; `start_head` starts another, which knows nothing."""
        gcs = self.head.gcs
        os.kill(self.head.raylet, signal.SIGKILL)
        os.kill(gcs, signal.SIGKILL)
        self.head.process.wait(END_SECONDS)

    def end(self) -> None:
        """End all nodes."""
        processes = [node.process for node in [*self.nodes, self.head]]
        everything = [pid for process in processes for pid in below(process.pid)]
        for process in processes:
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(END_SECONDS)
        for pid in [*everything, *(process.pid for process in processes)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in processes:
            process.wait()
        self.nodes.clear()

    def _start(self, *words: str, **environment: str) -> Node:
        self._number += 1
        told = self.folder / f"node-{self._number}.txt"
        options = (f"--object-store-memory={OBJECT_STORE_BYTES}", "--dashboard-agent-listen-port=0")
        with told.open("wb") as output:
            process = subprocess.Popen(
                [str(RAY), "start", "--block", "--disable-usage-stats", *options, *words],
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_for(lambda: STARTED in told.read_text() or process.poll() is not None, "a node of Ray", START_SECONDS)
        assert process.poll() is None, told.read_text()
        return Node(process)


@contextmanager
def raylets(num_nodes: int) -> Iterator[Raylets]:
    """A cluster as long as the context lasts. num_nodes: beside the head"""
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))  # Ray's sockets lie here: a path of about 100 characters
    cluster = Raylets(folder)
    try:
        for _ in range(num_nodes):
            cluster.add()
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def below(pid: int) -> list[int]:
    """The processes that one has started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        waiting += children.get(waiting[0], [])
        found.append(waiting.pop(0))
    return found[1:]


def title(pid: int) -> str:
    """A process's command line, "" where it has ended."""
    with suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def program(pid: int) -> str:
    """The name of a process's program."""
    return Path(title(pid).split(" ", 1)[0]).name
