"""How the processes of a group find each other: a store in the first one, which listens at its node's address alone.

    first: open_meeting() --address--> all: join(address, rank, size) --> torch's default process group

torch's own rendezvous listens at every address of the machine, and its store takes commands from whoever reaches it.
"""

import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from torch.distributed import TCPStore  # type: ignore[attr-defined]

_kept: list[TCPStore] = []  # the store of this process's group; one that nothing refers to stops listening


@dataclass(frozen=True)
class Meeting:
    """Where a group meets."""

    host: str
    port: int


def open_meeting() -> Meeting:
    """Start the store of a group in this process, which is to be its first; the group before it is over."""
    host = str(ray.util.get_node_ip_address())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    _kept[:] = [TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())]
    return Meeting(host, port)


def join(meeting: Meeting, backend: str, rank: int, size: int, timeout: timedelta) -> None:
    """Become one of a group of `size` processes. timeout: of this, and of every collective of the group"""
    store = TCPStore(meeting.host, meeting.port, size, is_master=False, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


class MeetingConfig(TorchConfig):  # type: ignore[misc]
    """What Ray Train's workers of torch are told, but for how they meet."""

    @property
    def backend_cls(self) -> type[Any]:
        return _MeetingBackend


class _MeetingBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: MeetingConfig) -> None:
        worker_group.execute(_set_torch_distributed_env_vars)
        meeting = worker_group.execute_single(0, open_meeting)
        size, timeout = len(worker_group), timedelta(seconds=backend_config.timeout_s)
        joining = [
            worker_group.execute_single_async(rank, join, meeting, backend_config.backend, rank, size, timeout)
            for rank in range(size)
        ]
        ray.get(joining)
