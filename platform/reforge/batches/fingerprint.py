"""What decides a preparation's result, as a hash: file contents, options and the code that reads and packs."""

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from reforge.batches.progress import Progress
from reforge.spec import UserError

_CHUNK_BYTES = 1 << 22
# A file changed twice within a tick of the file system's clock keeps its time: too fresh to trust.
_SETTLED_SECONDS = 3.0
_CODE = ("reforge.corpora", "reforge.tokenizers", "reforge.batches")


def digest(value: object) -> str:
    """Hash of anything JSON can hold, keys sorted; 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


class FileHashes:
    """Hashes of file contents, remembered by path, size, time and inode so that an untouched file is only stat'ed."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, Any] = {}
        if cache.is_file():
            try:
                self._known = json.loads(cache.read_text())
            except ValueError:  # a cache cut short by a full disk costs reading the files again, nothing more
                self._known = {}

    def of(self, files: Sequence[Path], announce: Callable[[str], None]) -> list[str]:
        """Content hash of each file."""
        hashes: list[str] = []
        progress = Progress(announce)
        for file in files:
            stamp = file_stamp(file)
            known = self._known.get(str(file.resolve()))
            if known and known[:-1] == stamp:
                hashes.append(known[-1])
                continue
            progress(lambda: f"comparing contents: {len(hashes):,} of {len(files):,} files")
            hashes.append(_content_hash(file))
            if time.time() - stamp[1] / 1e9 > _SETTLED_SECONDS:
                self._known[str(file.resolve())] = [*stamp, hashes[-1]]
        return hashes

    def save(self) -> None:
        temp = self._cache.with_name(f".{self._cache.name}-{os.getpid()}")
        temp.write_text(json.dumps(self._known))
        temp.replace(self._cache)


def file_stamp(file: Path) -> list[int]:
    """Size, modification time in nanoseconds and inode: what changes when a file does."""
    try:
        stat = file.stat()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _content_hash(file: Path) -> str:
    state = hashlib.blake2b(digest_size=16)
    try:
        with file.open("rb") as handle:
            while chunk := handle.read(_CHUNK_BYTES):
                state.update(chunk)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return state.hexdigest()


def code_fingerprint(*parts: type) -> str:
    """Hash of the source of every reforge module below the `batches` layer that these classes are made of.

    The modules of the whole inheritance, and what those import in turn; registries are left out, so that a new corpus
    does not make another's preparation void.
    """
    modules: dict[str, str] = {}
    pending = [base.__module__ for part in parts for base in part.__mro__]
    while pending:
        name = pending.pop()
        if name in modules or not name.startswith(_CODE) or name in _CODE:
            continue
        modules[name] = inspect.getsource(sys.modules[name])
        pending += _imports(sys.modules[name], modules[name])
    return digest(modules)


def _imports(module: ModuleType, source: str) -> Iterator[str]:
    """Modules that a module names in its imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names if f"{name}.{alias.name}" in sys.modules)
