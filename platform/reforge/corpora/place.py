"""Where files are: a local path, or a URL that fsspec knows (s3://, gs://, hdfs://, memory://, ...).

    "data/kowiki"          -> pathlib.Path
    "s3://bucket/pile"     -> upath.UPath, which has the same methods

Whoever reads or writes through a `Place` does not need to know which of the two it is.
"""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from upath import UPath

from reforge.spec import UserError

_URL = "://"


class _PlaceSchema:
    """Tells pydantic that a place is a path or a URL: text in YAML, Path or UPath in Python."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(as_place, core_schema.str_schema(min_length=1)),
            python_schema=core_schema.is_instance_schema((Path, UPath)),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "path"}


if TYPE_CHECKING:
    Place = Path
else:
    Place = Annotated[Path, _PlaceSchema]


def as_place(text: str) -> Path:
    """The path or the URL that `text` spells."""
    return UPath(text) if _URL in text else Path(text)  # type: ignore[return-value]


def is_remote(place: Path) -> bool:
    """Whether a place is reached through a file system of fsspec's; False for local paths."""
    return isinstance(place, UPath) and not isinstance(place, Path)


@contextmanager
def remote_errors(place: Path, unless: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what keeps a remote place from being reached (no package, no credentials, no bucket) into a UserError.

    unless: errors of the content rather than of the way to it, left as they are
    """
    try:
        yield
    except UserError:
        raise
    except unless:
        raise
    except Exception as error:  # every file system brings errors of its own, without a base in common
        if not is_remote(place):
            raise
        raise unreachable(place, error) from error


def unreachable(place: Path, error: Exception) -> UserError:
    """What is said where a file system's own error keeps a remote place from being reached."""
    return UserError(f"{place} cannot be reached: {str(error).rstrip('.') or type(error).__name__}")


def visible_files(place: Path) -> list[Path]:
    """The file at `place`, every file below the directory, or every file that a glob pattern matches or leads to.

    Sorted; hidden files and directories are left out, as the shell leaves them out.
    """
    if is_remote(place):
        with remote_errors(place):
            return _remote_files(place)
    if place.is_file():
        return [place]
    if place.is_dir():
        return sorted(_below(place))
    found = [Path(name) for name in glob.glob(str(place), recursive=True)]  # noqa: PTH207  (Path.glob takes no absolute pattern)
    nested = (_below(entry) if entry.is_dir() else [entry] for entry in found)
    return sorted({file for files in nested for file in files})


def fixed_part(place: Path) -> Path:
    """The directory that a place's files are named from: the part of a pattern before its first wildcard."""
    if not glob.has_magic(str(place)) and place.is_dir():
        return place
    while glob.has_magic(str(place)) and (is_remote(place) or not place.exists()):
        place = place.parent
    return place.parent if place.is_file() else place


def exists(place: Path) -> bool:
    """Whether there is something at a place. Raises UserError where a remote one can't be reached."""
    with remote_errors(place):
        return place.exists()


def is_folder(place: Path) -> bool:
    """Whether there is a folder at a place, or files below it. Raises UserError where a remote one can't be reached."""
    with remote_errors(place):
        if is_remote(place):
            place.fs.invalidate_cache()  # type: ignore[attr-defined]  # listings are remembered
        return place.is_dir()


def nearest_existing(path: Path) -> str | None:
    """The neighbour of the first missing name that looks most like it."""
    missing = path
    while missing.parent != missing and not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        return None
    names = [entry.name for entry in missing.parent.iterdir() if not entry.name.startswith(".")]
    close = difflib.get_close_matches(missing.name, names, n=1)
    return str(missing.parent / close[0]) if close else None


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_not_readable, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(place, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _not_readable(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _remote_files(place: Any) -> list[Path]:
    system, root = place.fs, place.path
    system.invalidate_cache()  # listings are remembered, and files may have come since
    if system.isfile(root):
        return [place]
    if glob.has_magic(root):
        base = fixed_part(place).path  # type: ignore[attr-defined]
        entries = system.glob(root, detail=True)
        found = [file for name, entry in entries.items() for file in _remote_below(system, name, entry["type"])]
    else:
        base, found = root, system.find(root)
    base = system._strip_protocol(base).rstrip("/")
    # A name that ends in "/" is what consoles of object stores create for an empty folder.
    visible = {name for name in found if "/." not in name.removeprefix(base) and not name.endswith("/")}
    return [UPath(system.unstrip_protocol(name), **place.storage_options) for name in sorted(visible)]


def _remote_below(system: Any, name: str, entry_type: str) -> list[str]:
    found: list[str] = [name] if entry_type == "file" else system.find(name)
    return found
