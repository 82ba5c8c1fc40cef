"""What a run writes on this machine, brought to its place in a store while it goes on.

    a checkpoint is written --links to its files--> waiting (the newest, and the best) --one at a time--> store
                                                                                         manifest.json last
    spec.yaml, metrics.jsonl, tensorboard/  before each checkpoint      result.json  at the very end

Nobody waits for an upload but `drain`. At most one is under way and two wait, however slow the store is: a newer
checkpoint takes the place of an older one that waits and is not the best.
"""

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reforge.batches.storage import MANIFEST
from reforge.loop.checkpoint import NAME, outdated, step_of
from reforge.runs import store as stores
from reforge.runs.folder import RunFolder
from reforge.runs.lease import Lease
from reforge.runs.links import link_folder
from reforge.runs.store import STOP, Say, Store, patiently
from reforge.spec import UserError

CHECKPOINTS = "checkpoints"
_OUTGOING = ".outgoing"


@dataclass(frozen=True)
class _Outgoing:
    """A checkpoint on its way: links to its files, and what of the others is kept once it is there."""

    folder: Path
    keep: int
    best_step: int | None

    @property
    def step(self) -> int:
        return step_of(self.folder)


class _Result:
    """The end of a run on its way: what is not there of its files, result.json last."""


class Mirror:
    """Brings what lies in `folder` to `store`, in a thread of its own, as long as `lease` is held."""

    def __init__(self, store: Store, folder: RunFolder, lease: Lease, say: Say) -> None:
        self.store, self.folder, self.lease, self.say = store, folder, lease, say
        self._changed = threading.Condition()
        self._waiting: list[_Outgoing | _Result] = []
        self._is_busy = self._has_said = False
        self._trouble: UserError | None = None
        self._given_up = threading.Event()
        self._sent: dict[str, tuple[int, int]] = {}
        shutil.rmtree(folder.path / _OUTGOING, ignore_errors=True)
        threading.Thread(target=self._work, daemon=True, name="reforge-mirror").start()

    def offer(self, checkpoint: Path, keep: int, best_step: int | None) -> None:
        """Have a complete checkpoint brought there, and then what is outdated by it removed there; returns at once.

        Raises UserError where an earlier one could not be.
        """
        with self._changed:
            self._raise_trouble()
            links = self.folder.path / _OUTGOING / checkpoint.name
            if not links.exists():
                link_folder(checkpoint, links)
            waiting = [one for one in self._waiting if isinstance(one, _Outgoing)]
            kept = [one for one in waiting if one.step == best_step]
            self._waiting = [*kept, _Outgoing(links, keep, best_step)]
            self._changed.notify_all()
        for one in waiting:
            if one not in kept:
                shutil.rmtree(one.folder, ignore_errors=True)

    def finish(self) -> None:
        """Have the rest of the folder brought there after all checkpoints; returns at once."""
        with self._changed:
            self._waiting.append(_Result())
            self._changed.notify_all()

    def is_drained(self, seconds: float) -> bool:
        """Whether all is there that was to be brought, which is waited for; raises UserError where that failed."""
        with self._changed:
            if not self._changed.wait_for(self._is_over, min(1.0, seconds)) and not self._has_said:
                self._has_said = True
                self.say(f"waiting until all of the run is in {self.store.place}")
            is_over = self._changed.wait_for(self._is_over, seconds)
            self._raise_trouble()
        return is_over

    def close(self, seconds: float) -> None:
        """End the thread; what is not there after `seconds` is given up."""
        with self._changed:
            self._changed.wait_for(self._is_over, seconds)
            self._given_up.set()
            self._changed.notify_all()

    def bring_checkpoint(self, checkpoint: Path) -> None:
        """Bring a complete checkpoint there, its manifest last; nothing where it is there."""
        remote, manifest = f"{CHECKPOINTS}/{checkpoint.name}", (checkpoint / MANIFEST).read_bytes()
        if self.store.read(f"{remote}/{MANIFEST}") == manifest:
            return
        self.lease.check()
        self.store.remove([f"{remote}/{MANIFEST}"])
        for file in sorted(checkpoint.iterdir()):
            if file.name != MANIFEST:
                self.store.upload(file, f"{remote}/{file.name}")
        self.lease.check()
        self.store.write(f"{remote}/{MANIFEST}", manifest)

    def bring_files(self) -> None:
        """Bring what has changed of all but checkpoints and the result."""
        self.lease.check()
        for name, file in visible_files(self.folder.path).items():
            stat = file.stat()
            if self._sent.get(name) != (stat.st_size, stat.st_mtime_ns):
                self.store.upload(file, name)
                self._sent[name] = (stat.st_size, stat.st_mtime_ns)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._given_up.is_set())
                if self._given_up.is_set():
                    return
                one, self._is_busy = self._waiting.pop(0), True
            trouble = self._bring(one)
            with self._changed:
                self._is_busy, self._trouble = False, trouble
                if isinstance(one, _Outgoing):
                    shutil.rmtree(one.folder, ignore_errors=True)
                self._changed.notify_all()
                if trouble:
                    return

    def _bring(self, one: _Outgoing | _Result) -> UserError | None:
        try:
            self._patiently(self.bring_files)  # what leads up to a checkpoint; and the model, before the result
            if isinstance(one, _Outgoing):
                self._patiently(lambda: self.bring_checkpoint(one.folder))
                self._patiently(lambda: self._retain(one))
            elif self.folder.result.is_file():
                self._patiently(lambda: self.store.upload(self.folder.result, self.folder.result.name))
        except UserError as error:
            return error
        return None

    def _retain(self, one: _Outgoing) -> None:
        """Remove there what is not kept here: outdated checkpoints, and parts of some that were never finished."""
        names = self.store.names(CHECKPOINTS)
        complete = complete_checkpoints(names)
        kept = set(complete) - set(outdated(complete, one.step, one.keep, one.best_step))
        going = sorted(name for name in names if name.split("/")[1] not in kept)
        # Without its manifest a checkpoint is none, whatever becomes of the rest.
        self.store.remove(sorted(going, key=lambda name: not name.endswith(f"/{MANIFEST}")))

    def _is_over(self) -> bool:
        return self._trouble is not None or not (self._waiting or self._is_busy)

    def _patiently(self, work: Callable[[], None]) -> None:
        patiently(work, self.store.place, stores.PATIENCE_SECONDS, self.say, self._given_up)

    def _raise_trouble(self) -> None:
        if self._trouble:
            here = f"{self.folder.path} on {os.uname().nodename}"
            raise UserError(f"{self._trouble}; what was not brought there lies in {here}")


def visible_files(folder: Path) -> Mapping[str, Path]:
    """The files of a run that are brought to its store as they are, by their names there."""
    apart = (CHECKPOINTS, STOP, "result.json")
    entries = [entry for entry in sorted(folder.iterdir()) if entry.name not in apart]  # not into what comes and goes
    files = [file for entry in entries for file in ([entry] if entry.is_file() else sorted(entry.rglob("*")))]
    found = {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}
    return {name: file for name, file in found.items() if "/." not in f"/{name}"}


def complete_checkpoints(names: set[str]) -> list[str]:
    """The checkpoints whose manifest is among the names, the oldest first."""
    places = [name.split("/") for name in names if name.endswith(f"/{MANIFEST}")]
    return sorted((place[1] for place in places if len(place) == 3 and NAME.fullmatch(place[1])), key=_step)


def _step(name: str) -> int:
    return step_of(Path(name))
