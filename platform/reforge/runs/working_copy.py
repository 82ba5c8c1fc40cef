"""A run that is kept in a store, on the machines that train it.

    s3://bucket/runs/NAME --newest complete checkpoint, metrics.jsonl--> run.cache/runs/NAME-1f2e... on every machine
                    ^---------- Mirror, on the first process ----------'

What lies in the store counts. A checkpoint of this machine is used only where the store's is the same byte for byte;
one that the store lacks is brought there first, and only where nobody else has written the run since: the lock that the
dead process left there has the name that it left here.
"""

import fcntl
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from reforge.batches.storage import MANIFEST
from reforge.corpora.place import is_remote, remote_errors
from reforge.loop import World
from reforge.loop.checkpoint import NAME, files_in, find_flaw, step_of
from reforge.runs import store as stores
from reforge.runs.folder import Job, RunFolder, RunStatus, held_on_first, storage_errors
from reforge.runs.lease import Lease
from reforge.runs.mirror import CHECKPOINTS, Mirror, complete_checkpoints
from reforge.runs.stop_request import Leaving, Stopped, StopRequest
from reforge.runs.store import MISTAKES, Say, Store, folder_here, patiently
from reforge.spec import Part, UserError, render
from reforge.tracking import write_whole

# How long a run that failed waits for what is under way: Ray ends a process that takes longer to go.
CLOSING_SECONDS = 10.0
# How long the others of a group wait for the first to say whether all is in the store, at a time.
LOOK_SECONDS = 15.0
_OWNER = ".owner"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WorkingCopy(RunFolder):
    """The folder on this machine of a run in `store`.

    mirror: brings what is written there; on the first process
    start: a name for this start of the run, the same on all processes
    """

    store: Store
    mirror: Mirror | None
    start: str
    say: Say

    def keep(self, checkpoint: Path, num_kept: int, best_step: int | None) -> None:
        """Have a checkpoint brought to the store, without waiting for it."""
        assert self.mirror is not None, "the first process writes checkpoints"
        self.mirror.offer(checkpoint, num_kept, best_step)

    def have(self, checkpoint: str, world: World) -> None:
        """Fetch a checkpoint from the store to every machine that lacks it."""
        wait_for(self.mirror, world)

        def bring() -> None:
            flaw = _patiently(lambda: fetch(self.store, self.checkpoints, checkpoint, self.start), self.store, self.say)
            if flaw is not None:
                raise UserError(f"{self.store.place}/{CHECKPOINTS}/{checkpoint} is not complete ({flaw})")

        world.on_all(bring)


@contextmanager
def held(folder: RunFolder, job: Job, world: World, say: Say, cache: Path, driver: str = "") -> Iterator[RunFolder]:
    """The right to write a run as long as the context lasts, and the folder to write; every process must enter.

    A run on disk is written where it is, one in a store in a working copy below `cache`; the lock of a process that
    `driver` has started before is not waited for. When the context ends well, or the run stops as it was asked to,
    everything is in the store. Raises UserError where that cannot be.
    """
    if not is_remote(folder.path):
        with held_on_first(folder, job, world):
            yield folder
        return
    place, here = folder.path, RunFolder(folder_here(folder.path, cache), folder.kept_in, folder.curves)
    with remote_errors(place):
        store = Store(place)
    on_first: list[_Held] = []

    def begin() -> tuple[str | None, str]:
        on_first.append(_Held.take(store, here, say, driver))
        return on_first[0].settle(RunFolder(place, folder.kept_in), job), on_first[0].lease.owner.token

    try:
        newest, start = world.on_first(begin)
        world.on_all(lambda: _patiently(lambda: _have_only(store, here.checkpoints, newest, start), store, say))
        mirror = on_first[0].mirror if on_first else None
        yield WorkingCopy(here.path, here.kept_in, here.curves, store=store, mirror=mirror, start=start, say=say)
        world.on_first(lambda: on_first[0].mirror.finish())
        wait_for(mirror, world)
    except (Stopped, Leaving):
        wait_for(mirror, world)
        raise
    finally:
        for one in on_first:
            one.close()
    shutil.rmtree(here.path, ignore_errors=True)  # all of it is in the store


def wait_for(mirror: Mirror | None, world: World) -> None:
    """Return, on every process, once all that was written is in the store; raises UserError where that failed."""

    def is_drained() -> bool:
        assert mirror is not None, "the first process has one"
        return mirror.is_drained(LOOK_SECONDS)

    while not world.on_first(is_drained):  # in short looks: processes that wait for long are given up as hanging
        pass


@dataclass(frozen=True)
class _Held:
    """What the first process holds: the folder here, the lock there, and the way between them."""

    folder: RunFolder
    store: Store
    lock: TextIO
    lease: Lease
    mirror: Mirror
    say: Say

    @classmethod
    def take(cls, store: Store, folder: RunFolder, say: Say, driver: str) -> "_Held":
        lock = folder.hold()
        try:
            request = StopRequest(folder.path)
            request.clear()
            lease = _patiently(lambda: Lease.take(store, lambda: _ask(request), say, driver), store, say)
        except BaseException:
            lock.close()
            raise
        return cls(folder, store, lock, lease, Mirror(store, folder, lease, say), say)

    def settle(self, there: RunFolder, job: Job) -> str | None:
        """Make the folder here what the store's run is; the name of the checkpoint to go on from.

        Raises UserError where the store has a run of another spec.
        """
        status = there.status(job)
        if self._wrote_last() and _is_of(self.folder, job):
            _patiently(self._bring_left, self.store, self.say)
        else:
            _clear(self.folder.path)
        newest = _patiently(self._fetch_newest, self.store, self.say)
        rows = _patiently(lambda: self.store.read(self.folder.metrics.name), self.store, self.say)
        with storage_errors(self.folder.path):
            self.folder.metrics.write_bytes(rows or b"")
            write_whole(self.folder.path / _OWNER, self.lease.owner.token)
            if status is not RunStatus.FINISHED:
                assert isinstance(job, Part)
                write_whole(self.folder.spec, render(job))
        return newest

    def close(self) -> None:
        self.mirror.close(CLOSING_SECONDS)
        with suppress(Exception):  # a store that is gone: the lock is taken over when it is back
            self.lease.release()
        self.lock.close()

    def _wrote_last(self) -> bool:
        owner = self.folder.path / _OWNER
        return owner.is_file() and owner.read_text(encoding="utf-8") == self.lease.previous

    def _bring_left(self) -> None:
        there = complete_checkpoints(self.store.names(CHECKPOINTS))
        newest = step_of(Path(there[-1])) if there else -1
        left = [path for path in _here(self.folder.checkpoints) if step_of(path) > newest and find_flaw(path) is None]
        if left:
            self.mirror.bring_files()
        for path in left:
            self.mirror.bring_checkpoint(path)
            self.say(f"{path.name}, which only this machine had, is in {self.store.place} now")

    def _fetch_newest(self) -> str | None:
        for name in reversed(complete_checkpoints(self.store.names(CHECKPOINTS))):
            flaw = fetch(self.store, self.folder.checkpoints, name, self.lease.owner.token)
            if flaw is None:
                return name
            where = f"{self.store.place}/{CHECKPOINTS}/{name}"
            self.say(f"warning: checkpoint {where} is not complete ({flaw}); it is passed over")
        return None


def fetch(store: Store, folder: Path, name: str, start: str) -> str | None:
    """Have a checkpoint of the store in `folder`, downloaded once a machine; what is wrong with it, or None.

    start: what one process of a start has looked through, the others of the machine need not
    """
    with storage_errors(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".fetching").open("a+", encoding="utf-8") as seen:
        fcntl.flock(seen, fcntl.LOCK_EX)
        seen.seek(0)
        if seen.read() == f"{start} {name}" and (folder / name).is_dir():
            return None
        manifest = store.read(f"{CHECKPOINTS}/{name}/{MANIFEST}")
        if manifest is None:
            return f"{MANIFEST} is missing"
        flaw = None if _is_here(folder / name, manifest) else _download(store, folder, name, manifest)
        if flaw is None:
            seen.truncate(0)
            seen.write(f"{start} {name}")
        return flaw


def _is_here(checkpoint: Path, manifest: bytes) -> bool:
    file = checkpoint / MANIFEST
    return file.is_file() and file.read_bytes() == manifest and find_flaw(checkpoint) is None


def _download(store: Store, folder: Path, name: str, manifest: bytes) -> str | None:
    writing = folder / f".fetching-{name}"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    try:
        (writing / MANIFEST).write_bytes(manifest)
        for file in files_in(writing):
            with suppress(FileNotFoundError):  # find_flaw says which
                store.download(f"{CHECKPOINTS}/{name}/{file}", writing / file)
        flaw = find_flaw(writing)
        if flaw is None:
            shutil.rmtree(folder / name, ignore_errors=True)
            writing.rename(folder / name)
        return flaw
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _have_only(store: Store, folder: Path, name: str | None, start: str) -> None:
    """Have one checkpoint of the store in `folder`, and no other."""
    flaw = fetch(store, folder, name, start) if name is not None else None
    if flaw is not None:
        raise UserError(f"{store.place}/{CHECKPOINTS}/{name} has become incomplete ({flaw})")
    for path in _here(folder):
        if path.name != name:
            shutil.rmtree(path, ignore_errors=True)


def _here(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if NAME.fullmatch(path.name))


def _is_of(folder: RunFolder, job: Job) -> bool:
    try:
        folder.status(job)
    except UserError:
        return False
    return True


def _clear(folder: Path) -> None:
    """Remove what another start has left, but for checkpoints: they may be those that are needed."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != CHECKPOINTS:
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and path.name != ".lock":
            path.unlink()


def _ask(request: StopRequest) -> None:
    request.make()


def _patiently(work: Callable[[], T], store: Store, say: Say) -> T:
    return patiently(work, store.place, stores.START_PATIENCE_SECONDS, say, threading.Event(), MISTAKES)
