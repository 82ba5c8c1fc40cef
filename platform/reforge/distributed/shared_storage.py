"""Whether every node sees the folders that a job writes: found before anything is trained, and said with node and path.

    driver: runs/.storage-id = 5f1c...  --Mark--> a task on each node, each worker: is it there, and the same?

A cluster's nodes have `runs` in common only where someone mounted it; a node that has a `runs` of its own would train
into a folder that nobody looks at.
"""

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reforge.corpora.place import is_remote, remote_errors
from reforge.runs.store import Store
from reforge.spec import UserError

_NAME = ".storage-id"
_ANSWER_SECONDS = 120.0  # a node that was idle starts a process first
_LATE_SECONDS, _LOOKS = 3.0, 6


@dataclass(frozen=True)
class Mark:
    """A folder that several nodes are to have in common, and what it is known by.

    setting: the option that names the folder, for messages
    """

    setting: str
    folder: Path
    identity: str

    def trouble_here(self) -> str:
        """Why this process does not have the folder in common with who marked it; "" where it does."""
        if is_remote(self.folder):
            return self._trouble_there()
        try:
            identity = (self.folder / _NAME).read_text(encoding="ascii")
        except FileNotFoundError:
            return "another folder lies there" if self.folder.is_dir() else "it is not there"
        except (OSError, ValueError) as error:
            return f"it cannot be read: {getattr(error, 'strerror', None) or error}"
        if identity != self.identity:
            return "another folder lies there"
        return "" if os.access(self.folder, os.W_OK) else "it cannot be written"

    def _trouble_there(self) -> str:
        try:
            with remote_errors(self.folder):
                identity = Store(self.folder).read(_NAME)
        except UserError as error:
            return str(error)
        return "" if identity == self.identity.encode() else "another store answers by that name"


def mark(folders: Iterable[tuple[str, Path]]) -> list[Mark]:
    """Marks for folders on disks, which are made where there are none, and for the remote one that runs are kept in.

    Others that are remote may belong to somebody else, and are only read.

    folders: the option that names each, and its path
    Raises UserError where one cannot be written.
    """
    ours = {
        folder.expanduser().absolute(): setting
        for setting, folder in folders
        if setting == "run.storage" or not is_remote(folder)
    }
    return [_mark(setting, folder) for folder, setting in ours.items()]


def _mark(setting: str, folder: Path) -> Mark:
    if is_remote(folder):
        with remote_errors(folder):
            store, identity = Store(folder), uuid.uuid4().hex.encode()
            content = identity if store.create(_NAME, identity) else store.read(_NAME) or b""
        return Mark(setting, folder, content.decode("ascii", "replace"))
    file = folder / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), file.open("x", encoding="ascii") as new:
            new.write(uuid.uuid4().hex)
        return Mark(setting, folder, file.read_text(encoding="ascii"))
    except OSError as error:
        raise UserError(f"{setting}: cannot write {folder}: {error.strerror or error}") from error


def check_nodes(folders: Iterable[tuple[str, Path]]) -> None:
    """Raise UserError where a node of the cluster that this process is connected to does not see the folders."""
    if not ray.is_initialized():
        return
    nodes = [node for node in ray.nodes() if node["Alive"]]
    marks = mark(folders) if len(nodes) > 1 else []
    if marks:
        _refuse([line for node, found in _looked(nodes, marks) for line in _lines(_name(node), marks, found)])


def _looked(nodes: Sequence[dict[str, Any]], marks: Sequence[Mark]) -> list[tuple[dict[str, Any], list[str]]]:
    """What each node says of each mark; a node that is gone meanwhile says nothing."""
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[_look.options(scheduling_strategy=there).remote(marks)] = node
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    found = []
    for reference in answered:
        with suppress(RayError):
            found.append((asked[reference], ray.get(reference)))
    return found


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]
def _look(marks: Sequence[Mark]) -> list[str]:
    return _troubles(marks)


def _troubles(marks: Sequence[Mark]) -> list[str]:
    """What is wrong with each, where it stays so: a network's file system may show a new file late."""
    for _ in range(_LOOKS):
        found = [one.trouble_here() for one in marks]
        if not any(found):
            break
        time.sleep(_LATE_SECONDS / _LOOKS)
    return found


def check_workers(marks: Sequence[Mark]) -> None:
    """The same from within a group of workers, whose nodes may have come since; every one of them must call it.

    Raises UserError on all of them where one does not see the folders.
    """
    name = f"{os.uname().nodename} ({ray.util.get_node_ip_address()})"
    lines = _lines(name, marks, _troubles(marks))
    if dist.is_initialized() and dist.get_world_size() > 1:
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, lines)
        lines = [line for of_one in gathered for line in of_one]
    _refuse(list(dict.fromkeys(lines)))


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _lines(node: str, marks: Sequence[Mark], found: Sequence[str]) -> list[str]:
    pairs = zip(marks, found, strict=True)
    return [f"{one.setting} {one.folder} on node {node}: {trouble}" for one, trouble in pairs if trouble]


def _refuse(lines: list[str]) -> None:
    if lines:
        shown = "\n".join(f"  {line}" for line in lines)
        raise UserError(
            f"not every node has the storage in common with the head:\n{shown}\n"
            "mount the same folder at the same path on every node, or choose one that is (run.storage=...)"
        )
