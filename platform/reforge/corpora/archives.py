"""Corpora whose files come as they are or in zip archives, as data portals hand them out.

    b.zip      member | member | member | directory
    ranges     [0 ....... s)  [s ........ end)         a member is of the range in which it begins

Nothing is unpacked to the disk. Names do not depend on Unicode's normal form: macOS writes Hangul decomposed.
"""

import unicodedata
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast

from pydantic import field_validator

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.place import is_remote, remote_errors
from reforge.corpora.reader import Reader
from reforge.corpora.streams import DamagedError
from reforge.spec import UserError

_ARCHIVE = ".zip"
_MOST_NESTED = 8
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1
# NotImplementedError: packed by a method that Python lacks. UnicodeDecodeError: a member's name.
_SPOILT = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError)


class Source(NamedTuple):
    """The open content of a file or of an archive's member.

    name: for the names of its documents
    place: for messages: the file, with the member's name under it
    depth: how many archives it lies in
    """

    name: str
    place: str
    content: BinaryIO
    depth: int = 0


class ArchivedCorpus(FileCorpus):
    """Files that may lie in zip archives, also in archives within archives."""

    @field_validator("path")
    @classmethod
    def _spell_path(cls, path: Path) -> Path:
        return path if is_remote(path) else spelt_as_on_disk(path)

    def files(self) -> list[Path]:
        # Excel leaves "~$name.xlsx" beside a workbook that is open.
        found = (file for file in super().files() if not file.name.startswith("~$"))
        return sorted(found, key=lambda file: (composed(file.as_posix()), file.as_posix()))

    def file_names(self) -> list[str]:
        return [composed(name) for name in super().file_names()]

    def whole(self) -> list[Slice]:
        return [whole._replace(name=composed(whole.name)) for whole in super().whole()]

    def cuttable(self, whole: Slice) -> bool:
        return whole.name.lower().endswith(_ARCHIVE)

    def read_file(self, reader: Reader) -> Iterator[Document]:
        try:
            with _opened_file(reader.file) as content:
                yield from self._read(Source(reader.name, str(reader.file), content), reader, reader.start, reader.stop)
        except DamagedError as error:
            # All ranges of an archive find it damaged: the first one counts it.
            if reader.on_bad_record == "fail" or not reader.start:
                reader.bad("rest of a damaged file", str(error), placed=True)

    @abstractmethod
    def read_source(self, source: Source, reader: Reader) -> Iterator[Document]:
        """Stream the documents of one file, which may be an archive's member, and count them in the reader's tally."""

    def _read(self, source: Source, reader: Reader, start: int = 0, stop: int | None = None) -> Iterator[Document]:
        if not source.name.lower().endswith(_ARCHIVE):
            yield from self.read_source(source, reader)
            return
        if source.depth == _MOST_NESTED:  # one can be made that holds itself
            raise DamagedError(f"{source.place} lies in more than {_MOST_NESTED - 1} archives")
        with _opened_archive(source) as archive:
            for member, name in _members(archive, self.endings):
                if start <= member.header_offset and (stop is None or member.header_offset < stop):
                    yield from self._read_member(source, archive, member, name, reader)

    def _read_member(
        self, archive_source: Source, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, reader: Reader
    ) -> Iterator[Document]:
        place = f"{archive_source.place}/{name}"
        try:
            with _member_content(archive, member, place) as content:
                member_source = Source(f"{archive_source.name}/{name}", place, content, archive_source.depth + 1)
                yield from self._read(member_source, reader)
        except DamagedError as error:
            reader.bad("rest of a damaged file", str(error), placed=True)


def composed(text: str) -> str:
    """A name in Unicode's normal form NFC."""
    return unicodedata.normalize("NFC", text)


def spelt_as_on_disk(path: Path) -> Path:
    """The path that is there, where one differs from `path` in nothing but the normal form of its names."""
    try:
        if path.expanduser().exists() or path.parent == path:
            return path
        parent = spelt_as_on_disk(path.parent)
        names = sorted(entry.name for entry in parent.expanduser().iterdir())
    except OSError:  # said when the files are looked for
        return path
    return parent / next((name for name in names if composed(name) == composed(path.name)), path.name)


@contextmanager
def _opened_file(file: Path) -> Iterator[BinaryIO]:
    """The file open at its start, to be read in any order."""
    try:
        with remote_errors(file):
            content = file.open("rb")
        with content:
            yield content
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error


@contextmanager
def _opened_archive(source: Source) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(source.content)
    except _SPOILT as error:
        raise DamagedError(f"{source.place} is no whole zip archive: {error}") from error
    with archive:
        yield archive


@contextmanager
def _member_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str) -> Iterator[BinaryIO]:
    if member.flag_bits & _ENCRYPTED:
        raise DamagedError(f"{place} is encrypted: unpack the archive with its password first")
    try:
        with archive.open(member) as content:
            yield cast(BinaryIO, content)
    except _SPOILT as error:
        raise DamagedError(f"{place} cannot be unpacked: {error or 'it ends in the middle'}") from error


def _members(archive: zipfile.ZipFile, endings: tuple[str, ...]) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """The members that are read, in the order in which they lie in the archive, and their names."""
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        name = _readable_name(member)
        parts = PurePosixPath(name).parts
        is_hidden = any(part.startswith((".", "~$", "__MACOSX")) for part in parts)
        if not (member.is_dir() or is_hidden) and name.lower().endswith(endings or ""):
            yield member, name


def _readable_name(member: zipfile.ZipInfo) -> str:
    """A member's name. Korean Windows writes CP949, which zipfile takes for CP437 as the standard has it."""
    if member.flag_bits & _UTF8_NAME:
        return composed(member.filename)
    raw = member.filename.encode("cp437")
    for encoding in ("utf-8", "cp949"):
        try:
            return composed(raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    return member.filename
