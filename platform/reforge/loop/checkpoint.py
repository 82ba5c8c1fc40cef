"""Checkpoints: folders that are either complete or not there, verified before they are trusted.

    checkpoints/step-00000200/{model.safetensors, optimizer.safetensors, state.json, manifest.json}

A folder is written under another name, the manifest (size and SHA-256 of every file) last, then renamed. No pickle is
written or read, and what a folder claims to hold is checked before it is used.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reforge.batches.storage import MANIFEST, sync_folder, write_synced
from reforge.loop.patience import patiently
from reforge.loop.state import LoopState
from reforge.loop.tensors import StateTensors, load_tensors, restore_optimizer, state_tensors
from reforge.loop.world import World
from reforge.spec import UserError

FORMAT = 1
NAME = re.compile(r"step-\d{8,}")


class _File(BaseModel):
    bytes: int
    sha256: str


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # of this folder alone


class _Manifest(BaseModel):
    files: Annotated[dict[_Name, _File], Field(min_length=1)]


class _Counters(BaseModel, extra="allow"):
    step: Annotated[int, Field(ge=0)]
    tokens_seen: Annotated[int, Field(ge=0)]
    best: tuple[str, float, int] | None
    seed: int
    data_fingerprint: str
    optimizer: dict[str, JsonValue]


class Checkpoints:
    """The checkpoints of one run, in `folder`."""

    def __init__(self, folder: Path, announce: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder
        self.announce = announce

    def newest_complete(self) -> Path | None:
        """The newest checkpoint whose files are all there, whole and unchanged; others are named and passed over."""
        for path in reversed(self._all()):
            flaw = find_flaw(path)
            if flaw is None:
                return path
            self.announce(f"warning: checkpoint {path.name} is not complete ({flaw}); it is passed over")
        return None

    def folder_of(self, step: int) -> Path:
        """Where the checkpoint of a step lies, if there is one."""
        return self.folder / f"step-{step:08d}"

    def save(self, state: LoopState, keep: int, tensors: StateTensors | None = None) -> Path:
        """Write a checkpoint of `state`, then remove all but the `keep` newest and the best.

        tensors: those of `state`, where other processes have a share of them (None: it has them all)
        Storage that is gone is waited for. Raises UserError where it cannot be written; the checkpoints before it stay
        as they were.
        """
        target = self.folder_of(state.step)
        writing = self.folder / f".writing-{target.name}-{os.getpid()}"
        whole = tensors or state_tensors(state, World())

        def write() -> None:
            self._remove_unfinished()
            self.folder.mkdir(exist_ok=True)  # not its parent: where the storage is gone, that would be another disk's
            writing.mkdir()
            write_checkpoint(state, whole, writing)
            if target.exists():  # an incomplete one of the same step, or the same step done again
                shutil.rmtree(target)
            writing.rename(target)
            sync_folder(self.folder)

        try:
            patiently(write, self.announce)
        except (OSError, SafetensorError) as error:  # safetensors wraps the system's errors in its own
            shutil.rmtree(writing, ignore_errors=True)
            raise UserError(self._cannot_write(state.step, error)) from error
        self._retain(keep, state)
        return target

    def _cannot_write(self, step: int, error: Exception) -> str:
        newest = self.newest_complete()
        rest = f"the last complete one is {newest}" if newest else "there is no complete one yet"
        return f"cannot write the checkpoint of step {step} under {self.folder}: {error}; {rest}"

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if NAME.fullmatch(path.name))

    def _remove_unfinished(self) -> None:
        # One process at a time writes here (it holds the run's lock): what another began will never be finished.
        for path in self.folder.glob(".writing-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _retain(self, keep: int, state: LoopState) -> None:
        best_step = state.best.step if state.best else None
        for name in outdated([path.name for path in self._all()], state.step, keep, best_step):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def outdated(names: Sequence[str], step: int, keep: int, best_step: int | None) -> list[str]:
    """Those of some checkpoints that a run at `step` does not keep: all but the `keep` newest and the best.

    names: in the order of their steps
    """
    # What is beyond the state was damaged, or it would have been resumed: it must not count among the newest.
    beyond = [name for name in names if step_of(Path(name)) > step]
    old = [name for name in names if step_of(Path(name)) <= step][:-keep]
    return beyond + [name for name in old if step_of(Path(name)) != best_step]


def step_of(path: Path) -> int:
    """The step that a checkpoint's folder is named after."""
    return int(path.name.removeprefix("step-"))


def write_checkpoint(state: LoopState, tensors: StateTensors, folder: Path) -> None:
    """The files of a checkpoint into an existing, empty `folder`, the manifest last."""
    save_file(tensors.weights, folder / "model.safetensors")
    save_file(tensors.optimizer, folder / "optimizer.safetensors")
    (folder / "state.json").write_text(
        as_json({"format": FORMAT, **state.counters(), "optimizer": tensors.rest}), encoding="utf-8"
    )
    files = {path.name: describe_file(path) for path in sorted(folder.iterdir())}
    for name in files:
        sync_file(folder / name)
    write_synced(folder / MANIFEST, as_json({"format": FORMAT, "files": files}))
    sync_folder(folder)


def find_flaw(folder: Path) -> str | None:
    """What keeps a checkpoint from being complete, or None."""
    try:
        files = _Manifest.model_validate_json((folder / MANIFEST).read_bytes()).files
    except (OSError, ValueError):
        return f"{MANIFEST} is missing or broken"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != expected.bytes:
            return f"{name} has {size:,} of {expected.bytes:,} bytes"
        if describe_file(path)["sha256"] != expected.sha256:
            return f"{name} has other content than was written"
    return None


def files_in(folder: Path) -> list[str]:
    """The names that a checkpoint's manifest has; none where it is broken."""
    try:
        return list(_Manifest.model_validate_json((folder / MANIFEST).read_bytes()).files)
    except (OSError, ValueError):
        return []


def restore(state: LoopState, folder: Path) -> None:
    """Take over weights, optimizer and counters of a complete checkpoint, in place.

    Raises UserError where the checkpoint was trained on other data, is of another model, or no checkpoint of ours.
    """
    try:
        counters = _Counters.model_validate_json((folder / "state.json").read_bytes()).model_dump()
        weights, moments = load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} is damaged, or no checkpoint of this version of reforge: {reason}") from error
    if counters["data_fingerprint"] != state.data_fingerprint:
        raise UserError(
            f"{folder} cannot be resumed: the data, how they are read and tokenised, or the encoder has changed since "
            f"(data {counters['data_fingerprint']} then, {state.data_fingerprint} now); name=... starts a new run"
        )
    if counters["seed"] != state.seed:
        raise UserError(f"{folder} cannot be resumed: its train.seed was {counters['seed']}, now it is {state.seed}")
    load_tensors(state.model, weights, source=folder / "model.safetensors")
    restore_optimizer(state, moments, counters["optimizer"], source=folder)
    state.restore_counters(counters)


def describe_file(path: Path) -> dict[str, Any]:
    """Size and digest of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def as_json(value: object) -> str:
    """`value` as readable JSON text."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def sync_file(path: Path) -> None:
    """Wait until the file's content is on the device."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
