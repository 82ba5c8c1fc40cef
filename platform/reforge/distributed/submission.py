"""Submitting a job and following it to its end: to the cluster at RAY_ADDRESS, or to a head on this machine.

submit.py --(script and arguments)--> head --> driver: python jobs/pretrain.py ...
    '<------- its output, then its exit code --------'
"""

import asyncio
import logging
import os
import secrets
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from reforge.distributed.arguments import INTERRUPTED, say
from reforge.distributed.cluster import local_resources
from reforge.distributed.connection import ANSWER_SECONDS, check_head, without_token
from reforge.distributed.private import start_private
from reforge.spec import UserError

# The nodes of cluster.yaml have it in their environment, too: with it drivers and workers find the package below their
# working directory, be that the repository's root or what --working-dir uploaded.
PACKAGES = "platform"

POLL_SECONDS = 0.2
# Ray gives a job this long between SIGTERM and SIGKILL, and some seconds more pass until it says so.
STOP_SECONDS = 30.0


def submit(command: Sequence[str], working_dir: Path | None) -> int:
    """Submit `command`, print what it prints, and give its exit code. Ctrl-C stops it, unless it runs on a cluster."""
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    if address is not None:
        return _run(_client(address), command, working_dir, stop_at_ctrl_c=False)
    with local_head() as address:
        return _run(_client(address), command, working_dir, stop_at_ctrl_c=True)


@contextmanager
def local_head() -> Iterator[str]:
    """A Ray head on this machine with a token of its own, for as long as the context lasts; the address for jobs."""
    resources = local_resources()
    with tempfile.TemporaryDirectory(prefix="reforge-head-") as folder, _head_environment(Path(folder) / "token"):
        start_private(resources.num_cpus, resources.num_gpus, with_dashboard=True)
        try:
            address = f"http://{ray._private.worker._global_node.webui_url}"
            access = " ".join(f"{name}={os.environ[name]}" for name in _ACCESS if name in os.environ)
            say(f"a head on this machine; from elsewhere: RAY_ADDRESS={address} {access} ray job list")
            yield address
        finally:
            ray.shutdown()


# Where a client finds the token; RAY_AUTH_TOKEN would be the token itself.
_ACCESS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


@contextmanager
def _head_environment(token: Path) -> Iterator[None]:
    """What Ray's processes inherit: the file of a new token, unless one is given; where packages and Python are."""
    before = dict(os.environ)
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & before.keys():
        with open(token, "w", opener=lambda path, flags: os.open(path, flags, 0o600), encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    # As start_private has it for this process: that 127.0.0.1 is an address that other processes find the head at.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (PACKAGES, before.get("PYTHONPATH"))))
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), before.get("PATH", os.defpath)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _client(address: str) -> JobSubmissionClient:
    """A client for jobs. Raises UserError, within seconds, where nothing answers or the token is not taken."""
    if "://" in address:
        _check_port(address)
    else:
        check_head(address)
    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except ConnectionError as error:
        raise UserError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from error
    except AuthenticationError as error:
        raise UserError(without_token(address)) from error


def _check_port(address: str) -> None:
    parts = urlsplit(address)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if parts.hostname is None or port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: {reason} (is `ray dashboard cluster.yaml` running?)"
        ) from error


def _run(client: JobSubmissionClient, command: Sequence[str], working_dir: Path | None, stop_at_ctrl_c: bool) -> int:
    environment = {"working_dir": str(working_dir)} if working_dir else {}
    job = client.submit_job(entrypoint=shlex.join(command), runtime_env=environment)
    say(f"job {job}: {shlex.join(command)}")
    try:
        asyncio.run(_follow(client, job))
        return _exit_code(job, _ended(client, job))
    except KeyboardInterrupt:
        if stop_at_ctrl_c:
            client.stop_job(job)
            _ended(client, job, STOP_SECONDS)
        else:
            say(f"job {job} goes on; `ray job logs --follow {job}` follows it, `ray job stop {job}` stops it")
        return INTERRUPTED


async def _follow(client: JobSubmissionClient, job: str) -> None:
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)


def _ended(client: JobSubmissionClient, job: str, seconds: float = float("inf")) -> JobDetails:
    """The job's details once it has ended, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (details := client.get_job_info(job)).status.is_terminal() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return details


def _exit_code(job: str, details: JobDetails) -> int:
    if details.status is JobStatus.SUCCEEDED:
        return 0
    if details.status is JobStatus.STOPPED:
        say(f"job {job} was stopped")
        return INTERRUPTED
    code: int | None = details.driver_exit_code
    if code is None:  # it never ran, and has printed nothing
        say(f"job {job} failed: {(details.message or 'no reason given').strip().splitlines()[-1]}")
        return 1
    say(f"job {job} failed with exit code {code}")
    return code if code >= 0 else 128 - code
