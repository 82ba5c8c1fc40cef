"""A run's folder in an object store (s3://, gs://, memory://, ...): the few things that are done with it.

Errors are the store's own, and of as many kinds as there are stores: `remote_errors` makes one message of them, and
`patiently` first waits whether they pass.
"""

import fcntl
import hashlib
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from upath import UPath

from reforge.corpora.place import is_remote, remote_errors, unreachable
from reforge.spec import UserError

T = TypeVar("T")
Say = Callable[[str], None]
Lasting = tuple[type[Exception], ...]

# What is spoken of by these names in a run's folder: who writes it, and that it is asked to stop.
LOCK, STOP = "lock", "stop"
# How long a store that cannot be reached is asked again: while a run trains, and before it has begun.
PATIENCE_SECONDS, START_PATIENCE_SECONDS = 300.0, 60.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
# Patience is ours: s3fs alone would try for half an hour to connect. A part of an upload has 50 MB of memory.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "retries": {"max_attempts": 1}}, "max_concurrency": 4}
}
# No bucket, no right, no package: before a run has begun these are a mistake in its spec.
MISTAKES = (FileNotFoundError, PermissionError, ImportError)


class Store:
    """The folder at a remote `place`; names are relative to it, with "/" between their parts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        asked: Any = place
        patient = UPath(str(place), **{**_OPTIONS.get(asked.protocol, {}), **asked.storage_options})
        self._system: Any = patient.fs
        self._root: str = place.path.rstrip("/")  # type: ignore[attr-defined]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def names(self, folder: str = "") -> set[str]:
        """The names of all files in the folder, or in one below it, as they are now."""
        self._system.invalidate_cache()
        found = self._system.find(self._path(folder).rstrip("/"))
        root = self._system._strip_protocol(self._root).rstrip("/") + "/"
        return {name.removeprefix(root) for name in found}

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        try:
            content: bytes = self._system.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put a small file there, in place of an earlier one."""
        self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Put a small file there; False where there is one. One step where the store has that, as S3 does."""
        try:
            self._system.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def upload(self, file: Path, name: str) -> None:
        """Bring a file of this machine there; a reader finds it whole or not at all."""
        self._system.put_file(str(file), self._path(name))

    def download(self, name: str, file: Path) -> None:
        """Bring a file from there to this machine."""
        self._system.get_file(self._path(name), str(file))

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are none."""
        for name in names:
            with suppress(FileNotFoundError):
                self._system.rm_file(self._path(name))

    def version(self, name: str) -> str | None:
        """What changes with a file's content; None where there is no such file."""
        self._system.invalidate_cache()
        try:
            return str(self._system.checksum(self._path(name)))
        except FileNotFoundError:
            return None


def patiently(
    work: Callable[[], T], place: Path, seconds: float, say: Say, ended: threading.Event, lasting: Lasting = ()
) -> T:
    """What `work` gives, asked again with growing pauses as long as the store refuses.

    ended: set where nobody waits for it any more
    lasting: errors that do not pass by waiting
    Raises UserError for those at once, for others after `seconds`; one that `work` raises goes through.
    """
    began, pause = time.monotonic(), _SHORTEST_PAUSE_SECONDS
    while True:
        try:
            return work()
        except UserError:
            raise
        except Exception as error:  # every store has errors of its own
            trouble = unreachable(place, error)
            if isinstance(error, lasting) or ended.is_set() or time.monotonic() - began > seconds:
                raise trouble from error
        if pause == _SHORTEST_PAUSE_SECONDS:
            say(f"warning: {trouble}; it is tried again for {seconds:.0f} s")
        ended.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def check_storage(place: Path) -> None:
    """Raise UserError, in one line, where a run cannot be kept at a remote place; nothing for a local one."""
    if not is_remote(place):
        return
    try:
        with remote_errors(place):
            store, name = Store(place), f".reforge-{uuid.uuid4().hex}"
            store.write(name, b"can it be written?")
            store.remove([name])
    except UserError as error:
        raise UserError(f"run.storage: {error}") from error


@contextmanager
def writable(folder: Path) -> Iterator[Path]:
    """A folder to write files in: `folder`, or one on this machine whose files are brought there when the block ends.

    Small ones: they are not brought in the background. result.json comes last.
    """
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="reforge-") as name:
        here = Path(name)
        yield here
        files = [file for file in sorted(here.rglob("*")) if file.is_file()]
        with remote_errors(folder):
            for file in sorted(files, key=lambda file: file.name == "result.json"):
                Store(folder).upload(file, file.relative_to(here).as_posix())


def brought(place: Path, names: Sequence[str], cache: Path) -> Path:
    """A folder on this machine with those of the named files that a remote place has, loaded once for each version.

    Raises UserError where they cannot be.
    """
    store = Store(place)
    with remote_errors(place):
        versions = {name: version for name in names if (version := store.version(name)) is not None}
        of_place = f"{folder_here(place, cache).name}-files-"
        folder = cache / f"{of_place}{_digest(repr(versions))}"
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{of_place}lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                for earlier in [*cache.glob(f"{of_place}*"), *cache.glob(f".{of_place}writing")]:
                    shutil.rmtree(earlier, ignore_errors=True)
                writing = cache / f".{of_place}writing"
                writing.mkdir()
                for name in versions:
                    store.download(name, writing / name)
                writing.rename(folder)
    return folder


def folder_here(place: Path, cache: Path) -> Path:
    """Where the working copy of a remote run lies on a machine."""
    return cache / f"{place.name}-{_digest(str(place))}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
