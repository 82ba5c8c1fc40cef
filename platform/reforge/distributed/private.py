"""A Ray for one job on this machine: nothing of it listens beyond loopback, and no other user can reach it."""

import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import parameter, ray_constants
from ray._private.utils import write_ray_address

from reforge.spec import UserError

# Ray shares no large objects between our processes; its default takes 30 % of the memory and warns in small containers.
OBJECT_STORE_BYTES = 256 * 2**20

# Progress reaches the driver through an actor; the workers' own lines stay in Ray's logs.
QUIET = {"logging_level": logging.ERROR, "log_to_driver": False}

_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# Read in Ray's processes, which inherit it. torch's collectives listen at the address of one interface: which, they
# guess by the machine's name.
_ENVIRONMENT = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
# Ray gives its processes 30 s to start, whatever is set: on a busy machine that may not do at once.
_ATTEMPTS = 3
_address: str | None = None  # of the Ray that this process has started


def start_private(num_cpus: int, num_gpus: int, with_dashboard: bool = False) -> None:
    """Start Ray on this machine and connect to it; it ends with this process.

    with_dashboard: jobs can be submitted to it
    Raises UserError where Ray's processes do not come up in time.
    """
    global _address
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not any(name in os.environ for name in _TOKENS):
        # Else Ray would take that in ~/.ray/auth_token, which it makes readable for every user of the machine.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = _own_folder() if with_dashboard else None
    options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "include_dashboard": with_dashboard, "_temp_dir": folder}
    for attempt in range(_ATTEMPTS):
        try:
            with on_loopback(), _started(with_dashboard):
                ray.init(address="local", object_store_memory=OBJECT_STORE_BYTES, **options, **QUIET)
            break
        except Exception as error:  # Ray has no type of its own for it
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if attempt + 1 == _ATTEMPTS:
                raise UserError(f"Ray did not start on this machine in {_ATTEMPTS} attempts: {error}") from error
    _address = ray.get_runtime_context().gcs_address
    if folder is not None:
        write_ray_address(_address, folder)


def is_private() -> bool:
    """Whether this process is connected to a Ray that it started, which ends with it and has no other node."""
    return ray.is_initialized() and bool(ray.get_runtime_context().gcs_address == _address)


def _own_folder() -> str:
    """A folder for Ray's files. By one of them a job finds its head; without it, it takes any Ray of this machine."""
    shared = Path(get_default_ray_temp_dir())
    shared.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="head-", dir=shared)


@contextmanager
def on_loopback() -> Iterator[None]:
    """Ray takes 127.0.0.1 for the node's address, as it does by itself on macOS and Windows.

    `_node_ip_address="127.0.0.1"` is no way: Ray puts the machine's address in its place, and listens everywhere. The
    environment variable behind this constant, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, is read when Ray is imported.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _started(with_dashboard: bool) -> Iterator[None]:
    """What Ray's node is started with that `ray.init` has no argument for.

    Ray takes any free port for its agent, without which no job can be submitted, where of two Rays on one machine only
    the first gets Ray's default. Where no jobs can be submitted, nobody reads what is logged and no node comes or goes:
    two processes less.
    """
    before = parameter.RayParams
    alone = {} if with_dashboard else {"include_log_monitor": False, "no_monitor": True}
    parameter.RayParams = partial(before, dashboard_agent_listen_port=0, **alone)
    try:
        yield
    finally:
        parameter.RayParams = before
