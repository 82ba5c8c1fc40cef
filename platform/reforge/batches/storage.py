"""Folders that exist complete or not at all, built by one process at a time."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reforge.spec import UserError

MANIFEST = "manifest.json"


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses (no room, no permission) into a UserError with path and reason."""
    try:
        yield
    except BrokenPipeError:  # whoever read the announcements went away: no matter of storage
        raise
    except OSError as error:
        place = error.filename or folder
        raise UserError(f"cannot prepare the data in {folder}: {error.strerror} ({place})") from error


@contextmanager
def locked(folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder that is to be built; whoever comes second waits, and says so."""
    with (folder.parent / f".{folder.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"another process is preparing {folder.name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well; the lock must be held."""
    for stale in folder.parent.glob(f".building-{folder.name}-*"):
        shutil.rmtree(stale)  # its builder died: it would hold the lock
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
        handle.flush()
        os.fsync(handle.fileno())


def write_manifest(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest, with the sizes of the files beside it, as the last file of a folder."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    manifest = {**content, "sizes": sizes}
    write_synced(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def read_manifest(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The manifest of a complete folder, else None and what is wrong with it ("" where there is no such folder)."""
    if not folder.exists():
        return None, ""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, f"{MANIFEST} is missing"
    except ValueError:
        return None, f"{MANIFEST} is damaged"
    for name, size in manifest["sizes"].items():
        file = folder / name
        if not file.is_file():
            return None, f"{name} is missing"
        if file.stat().st_size != size:
            return None, f"{name} has {file.stat().st_size} bytes instead of {size}"
    return manifest, ""


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the device."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
