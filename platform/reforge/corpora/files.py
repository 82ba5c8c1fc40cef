"""Corpora that are files: what a `path` stands for, and UTF-8 lines with the byte offset of whatever is not UTF-8."""

import codecs
import difflib
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from reforge.corpora.corpus import Corpus
from reforge.corpora.tally import Tally
from reforge.spec import Problem, UserError


class FileCorpus(Corpus):
    """A corpus in a file, in all files below a directory, or in the files that a glob pattern matches.

    Hidden files and directories are left out, as the shell leaves them out; no other name hides a file.
    """

    path: Path

    def files(self) -> list[Path]:
        path = self.path.expanduser()
        if path.is_file():
            return [path]
        if path.is_dir():
            return sorted(_visible_files(path))
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207  (Path.glob takes no absolute pattern)
        nested = (_visible_files(place) if place.is_dir() else [place] for place in found)
        return sorted({file for files in nested for file in files})

    def file_names(self) -> list[str]:
        root = _fixed_part(self.path.expanduser())
        return [file.relative_to(root).as_posix() for file in self.files()]

    def identity(self) -> dict[str, object]:
        # Where the files stand does not change what is in them.
        return self.model_dump(mode="json", exclude={"path"})

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        path = self.path.expanduser()
        if path.exists() or glob.has_magic(str(path)):
            if not self.files():
                rule = "must be a file or hold files" if path.exists() else "must match a file"
                yield Problem(("path",), rule, got=str(self.path))
        else:
            yield Problem(("path",), "must exist", got=str(self.path), nearest=_nearest_existing(path))

    def named_files(self, tally: Tally) -> Iterator[tuple[str, Path]]:
        """Each file with its name, counted."""
        for name, file in zip(self.file_names(), self.files(), strict=True):
            tally.files += 1
            yield name, file


def text_lines(file: Path) -> Iterator[str]:
    """Stream the lines of a UTF-8 file without their ends; a byte order mark is no text.

    Raises UserError with the file and the byte offset of the first byte that is not UTF-8, or why it can't be read.
    """
    offset = 0
    try:
        with file.open("rb") as handle:
            for raw in handle:
                line = raw.removeprefix(codecs.BOM_UTF8) if offset == 0 else raw
                try:
                    yield line.decode().rstrip("\r\n")
                except UnicodeDecodeError as error:
                    at = offset + len(raw) - len(line) + error.start
                    raise UserError(
                        f"{file} is not UTF-8: byte 0x{line[error.start]:02x} at offset {at}. "
                        "Convert the file to UTF-8 (iconv -f CP949 -t UTF-8) or leave it out"
                    ) from None
                offset += len(raw)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def _visible_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_not_readable, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(place, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _not_readable(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _fixed_part(path: Path) -> Path:
    """The directory that a path's files are named from: the part of a pattern before its first wildcard."""
    if path.is_dir():
        return path
    while glob.has_magic(str(path)) and not path.exists():
        path = path.parent
    return path.parent if path.is_file() else path


def _nearest_existing(path: Path) -> str | None:
    """The neighbour of the first missing name that looks most like it."""
    missing = path
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    if not missing.parent.is_dir():
        return None
    names = [entry.name for entry in missing.parent.iterdir() if not entry.name.startswith(".")]
    close = difflib.get_close_matches(missing.name, names, n=1)
    return str(missing.parent / close[0]) if close else None
