"""Folders that exist complete or not at all, local or remote.

A folder is complete when it holds manifest.json, which is written last. A local one is built beside its place and takes
it by renaming; a remote one, which can't be renamed, is built in its place.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from reforge.corpora.place import is_remote
from reforge.spec import UserError

MANIFEST = "manifest.json"
_CONTENT, _SIZES = TypeAdapter(dict[str, Any]), TypeAdapter(dict[str, int])


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses (no room, no permission) into a UserError with path and reason."""
    try:
        yield
    except BrokenPipeError:  # whoever read the announcements went away: no matter of storage
        raise
    except OSError as error:
        place = error.filename or folder
        raise UserError(f"cannot prepare the data in {folder}: {error.strerror or error} ({place})") from error


@contextmanager
def locked(folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder that is to be built; whoever comes second waits, and says so.

    Remote folders have no locks: two processes that build one at the same time write the same bytes.
    """
    if is_remote(folder):
        yield
        return
    with (folder.parent / f".{folder.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"another process is preparing {folder.name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """The place to write the files of `folder`, which is there when the block ends well.

    Only one process may build a local folder at a time.
    """
    if is_remote(folder):
        yield folder
        return
    for stale in folder.parent.glob(f".building-{folder.name}-*"):
        shutil.rmtree(stale)  # its builder died
    temp = folder.parent / f".building-{folder.name}-{os.getpid()}"
    temp.mkdir()
    try:
        yield temp
        sync_folder(temp)
        if folder.exists():
            shutil.rmtree(folder)
        temp.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def write_synced(file: Path, text: str) -> None:
    """Write a file and wait until it is on the device."""
    with file.open("w", encoding="utf-8") as handle:
        handle.write(text)
        sync_file(handle)


def sync_file(handle: Any) -> None:
    """Wait until what was written to an open file is on the device; a remote one is there when it is closed."""
    handle.flush()
    try:
        number = handle.fileno()
    except (OSError, AttributeError):
        return
    os.fsync(number)


def write_manifest(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest, with the sizes of the files beside it, as the last file of a folder."""
    manifest = {**content, "sizes": {name: size for name, size in sorted(_sizes(folder).items()) if name != MANIFEST}}
    write_synced(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def read_manifest(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The manifest of a complete folder, else None and what is wrong with it ("" where there is no such folder)."""
    try:
        manifest = _CONTENT.validate_json((folder / MANIFEST).read_bytes())
        claimed = _SIZES.validate_python(manifest.get("sizes"))
    except FileNotFoundError:
        return None, f"{MANIFEST} is missing" if folder.exists() and not is_remote(folder) else ""
    except ValueError:
        return None, f"{MANIFEST} is damaged"
    sizes = _sizes(folder)
    for name, size in claimed.items():
        if name not in sizes:
            return None, f"{name} is missing"
        if sizes[name] != size:
            return None, f"{name} has {sizes[name]} bytes instead of {size}"
    return manifest, ""


def remove_folder(folder: Path) -> None:
    """Delete a folder and all that is in it, if it is there."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.fs.rm(folder.path, recursive=True)  # type: ignore[attr-defined]


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the device."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sizes(folder: Path) -> dict[str, int]:
    """Size of every file in a folder; of a remote one by a single listing."""
    if is_remote(folder):
        system: Any = folder.fs  # type: ignore[attr-defined]
        entries = system.ls(folder.path, detail=True, refresh=True)  # type: ignore[attr-defined]
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
