"""What a job listens to, seen from the system: every socket of its processes, as long as they run."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from reforge.distributed.command import tensorboard_command
from reforge.runs import PretrainJob, RunFolder
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob

pytestmark = [
    pytest.mark.slow,  # starts Ray
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc"),
]

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
_LISTEN = "0A"


def listening(processes: set[int]) -> Iterator[tuple[str, int, str]]:
    """Address, port and program of every TCP socket that one of the processes listens on."""
    owners = {inode: process for process in processes for inode in sockets_of(process)}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in owners:
                host, port = fields[1].split(":")
                yield address(host), int(port, 16), program(owners[fields[9]])


def address(digits: str) -> str:
    """An address from the kernel's notation: words of four bytes, each in the machine's order."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    assert sys.byteorder == "little"
    found = ipaddress.ip_address(b"".join(words))
    return str(getattr(found, "ipv4_mapped", None) or found)


def sockets_of(process: int) -> Iterator[str]:
    """The inodes of a process's open sockets."""
    with suppress(OSError):  # it has ended meanwhile
        for entry in list(Path(f"/proc/{process}/fd").iterdir()):
            with suppress(OSError):  # closed meanwhile
                link = str(entry.readlink())
                if link.startswith("socket:["):
                    yield link[8:-1]


def program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:80].strip()
    except OSError:
        return "ended"


def with_children(first: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {first}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def watched(process: "subprocess.Popen[str]", until: Callable[[], bool]) -> set[tuple[str, int, str]]:
    """All that a process and its children listen on until the condition holds, or it ends."""
    seen: set[tuple[str, int, str]] = set()
    deadline = time.monotonic() + 300
    while process.poll() is None and not until() and time.monotonic() < deadline:
        seen.update(listening(with_children(process.pid)))
        time.sleep(0.2)
    return seen


def assert_loopback(seen: set[tuple[str, int, str]]) -> None:
    beyond = [one for one in sorted(seen) if not ipaddress.ip_address(one[0]).is_loopback]
    assert not beyond, beyond


def test_what_listens_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as here, socket.create_server(("", 0)) as everywhere:
        found = {(host, port) for host, port, _ in listening({os.getpid()})}
        assert {("127.0.0.1", here.getsockname()[1]), ("0.0.0.0", everywhere.getsockname()[1])} <= found
    with pytest.raises(AssertionError, match=r"0\.0\.0\.0"):
        assert_loopback({("0.0.0.0", 1, "x"), ("127.0.0.1", 2, "y"), ("::1", 3, "z")})


@pytest.mark.long
def test_a_job_listens_to_this_machine_alone(
    tiny_overrides: list[str], tiny_job: Callable[..., PretrainJob], tmp_path: Path
) -> None:
    """Preparation and training on two workers, in a Ray of the job's own."""
    overrides = [*tiny_overrides, f"run.storage={tmp_path}", "name=heard", "scale.num_workers=2"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "jobs/pretrain.py", str(TINY), *overrides]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as job:
        seen = watched(job, until=lambda: False)
        _, err = job.communicate(timeout=60)
    assert job.returncode == 0, err
    assert RunFolder(tmp_path / "heard").result.is_file()
    programs = " ".join(program for _, _, program in seen)
    for part in ("gcs_server", "raylet", "DashboardAgent", "RayTrainWorker"):
        assert part in programs, programs
    assert_loopback(seen)


def heard_until(command: list[str], answers: Callable[[], bool]) -> set[tuple[str, int, str]]:
    """All that a server listens on from its start until it answers."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            seen = watched(server, until=answers)
            assert server.poll() is None, server.communicate()[1]
            seen.update(listening(with_children(server.pid)))
        finally:
            server.send_signal(signal.SIGINT)
    assert_loopback(seen)
    return seen


def answering(port: int) -> Callable[[], bool]:
    def ask() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    return ask


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.long
def test_a_served_run_listens_to_this_machine_alone(finetune_job: Callable[..., FinetuneJob]) -> None:
    pytest.importorskip("ray.serve", reason="Ray Serve is the extra serve", exc_type=ImportError)
    job = finetune_job("name=heard-serving", "train.max_epochs=1")
    finetune(job, job.folder, torch.device("cpu"))
    port = free_port()
    command = [sys.executable, "jobs/predict.py", str(job.folder), "--serve", "--port", str(port)]
    seen = heard_until(command, answering(port))
    assert port in {port for _, port, _ in seen}


@pytest.mark.long
def test_the_printed_command_of_tensorboard_listens_to_this_machine_alone(tmp_path: Path) -> None:
    port = free_port()  # its own is one and the same for all of the machine
    command = [*tensorboard_command(tmp_path).split(), "--port", str(port)]
    seen = heard_until(command, lambda: reachable(port))
    assert port in {port for _, port, _ in seen}


def reachable(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10):
        return True
    return False
