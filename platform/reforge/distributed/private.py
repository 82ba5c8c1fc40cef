"""A Ray for one job on this machine: nothing of it listens beyond loopback."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

# Ray shares no large objects between our processes; its default takes 30 % of the memory and warns in small containers.
OBJECT_STORE_BYTES = 256 * 2**20

# Progress reaches the driver through an actor; the workers' own lines stay in Ray's logs.
QUIET = {"logging_level": logging.ERROR, "log_to_driver": False}

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
# Read in Ray's processes, which inherit it. torch's collectives listen at the address of one interface: which, they
# guess by the machine's name.
_ENVIRONMENT = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}


def start_private(num_cpus: int, num_gpus: int, with_dashboard: bool = False) -> None:
    """Start Ray on this machine and connect to it; it ends with this process. Jobs are submitted to the dashboard."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Nothing takes this machine away: the process that would watch for it only delays every start.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    with _on_loopback():
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            include_dashboard=with_dashboard,
            object_store_memory=OBJECT_STORE_BYTES,
            **QUIET,
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray takes 127.0.0.1 for the node's address, as it does by itself on macOS and Windows.

    `_node_ip_address="127.0.0.1"` is no way: Ray puts the machine's address in its place, and listens everywhere. The
    environment variable behind this constant, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, is read when Ray is imported.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
