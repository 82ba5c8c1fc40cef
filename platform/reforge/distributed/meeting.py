"""How the processes of a group find each other: a store in the first one, which listens at its node's address alone.

    first: open_meeting() --address--> all: join(address, rank, size) --> torch's default process group

torch's own rendezvous listens at every address of the machine, and its store takes commands from whoever reaches it.
"""

import socket
from dataclasses import dataclass
from datetime import timedelta

import ray
import torch.distributed as dist
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
