"""What a preparation must know of each file before it reads it: the hash of its content and its unpacked size."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter

from reforge.batches.executor import Executor, Tick
from reforge.batches.progress import Progress
from reforge.corpora.place import is_remote, remote_errors
from reforge.corpora.streams import DamagedError, is_packed, unpacked
from reforge.spec import UserError

_CHUNK_BYTES = 1 << 22
# A file changed twice within a tick of the file system's clock keeps its time: too fresh to trust.
_SETTLED_SECONDS = 3.0
# Small files are looked at many in a task.
_TASK_BYTES = 1 << 26
_KNOWN = TypeAdapter(dict[str, Annotated[list[Any], Field(min_length=2)]])


class FileFacts(NamedTuple):
    """Hash of a file's content as it lies there, and the size of what it unpacks to."""

    digest: str
    num_bytes: int


class KnownFiles:
    """Facts remembered by path, size, time and inode, so that an untouched file is only stat'ed."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, list[Any]] = {}
        try:
            self._known = _KNOWN.validate_json(cache.read_bytes())
        except (FileNotFoundError, ValueError):  # one cut short by a full disk costs reading the files again, no more
            self._known = {}

    def of(
        self, files: Sequence[Path], run: Executor, announce: Callable[[str], None]
    ) -> tuple[dict[Path, list[Any]], dict[Path, FileFacts]]:
        """Stamp and facts of each file; those not known are read by `run`."""
        stamps = {file: file_stamp(file) for file in files}
        unknown = [file for file in stamps if self._remembered(file, stamps[file]) is None]
        tasks = _grouped(unknown, stamps)
        progress, num_done = Progress(announce), 0
        for index, facts in run(scan, tasks, lambda documents, num_bytes: None):
            num_done += len(facts)
            progress(partial("comparing contents: {:,} of {:,} files".format, num_done, len(unknown)))
            for file, fact in zip(tasks[index], facts, strict=True):
                self._known[_name(file)] = [*stamps[file], *fact]
        found = {file: self._remembered(file, stamp) for file, stamp in stamps.items()}
        self._forget_fresh(stamps)
        return stamps, {file: facts for file, facts in found.items() if facts is not None}

    def save(self) -> None:
        temp = self._cache.with_name(f".{self._cache.name}-{os.getpid()}")
        if is_remote(self._cache):
            self._cache.write_text(json.dumps(self._known))
            return
        temp.write_text(json.dumps(self._known))
        temp.replace(self._cache)

    def _remembered(self, file: Path, stamp: list[Any]) -> FileFacts | None:
        known = self._known.get(_name(file))
        return FileFacts(*known[-2:]) if known and known[:-2] == stamp else None

    def _forget_fresh(self, stamps: Mapping[Path, list[Any]]) -> None:
        for file, stamp in stamps.items():
            if not is_remote(file) and time.time() - stamp[1] / 1e9 <= _SETTLED_SECONDS:
                self._known.pop(_name(file), None)


def file_stamp(file: Path) -> list[Any]:
    """What changes when a file does: size, modification time in nanoseconds and inode, or what a remote store tells."""
    try:
        if is_remote(file):
            with remote_errors(file):
                info = file.fs.info(file.path)  # type: ignore[attr-defined]
            return [info["size"], *(str(info.get(key, "")) for key in ("ETag", "etag", "mtime", "created"))]
        stat = file.stat()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def scan(files: Sequence[Path], tick: Tick) -> list[FileFacts]:
    """The facts of each file; one that can't be unpacked has the size of what could be."""
    return [_scan(file) for file in files]


def _scan(file: Path) -> FileFacts:
    state, size = hashlib.blake2b(digest_size=16), 0
    try:
        with remote_errors(file), file.open("rb") as handle:
            while part := handle.read(_CHUNK_BYTES):
                state.update(part)
                size += len(part)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return FileFacts(state.hexdigest(), _unpacked_size(file) if is_packed(file) else size)


def _unpacked_size(file: Path) -> int:
    num_bytes = 0
    # That a file is damaged is said when it is read as a corpus, where on_bad_record decides.
    with suppress(DamagedError), unpacked(file) as content:
        while part := content.read(_CHUNK_BYTES):
            num_bytes += len(part)
    return num_bytes


def _grouped(files: Sequence[Path], stamps: Mapping[Path, list[Any]]) -> list[list[Path]]:
    """Neighbouring files together up to a size, so that ten thousand small ones are not ten thousand tasks."""
    groups: list[list[Path]] = []
    size = _TASK_BYTES
    for file in files:
        if size >= _TASK_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += stamps[file][0]
    return groups


def _name(file: Path) -> str:
    return str(file) if is_remote(file) else str(file.resolve())
