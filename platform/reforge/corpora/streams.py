"""The content of files, unpacked on the way: .gz, .bz2, .xz and .zst by their endings, any other as it is.

file -> open (local or remote) -> unpack by ending -> UTF-16 to UTF-8 where asked for -> BufferedReader

Every stage gives out all that it has before it raises, so what can be read of a damaged file is always the same.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from reforge.corpora.place import is_remote, remote_errors
from reforge.spec import UserError

_READ_BYTES = 1 << 20
_PACKED_BYTES = 1 << 17
_ZSTANDARD_WINDOW_BYTES = 1 << 31  # what `zstd --long=31` needs
_SPOILT = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError)
Pieces = Callable[[], bytes]  # the next piece of a content, b"" at its end


class DamagedError(UserError):
    """A file that ends in the middle or holds something else than its ending says."""


class _Content(io.RawIOBase):
    """Pieces as a stream. The pieces do not depend on the sizes that are asked for, and errors name the file."""

    def __init__(self, file: Path, pieces: Pieces) -> None:
        self._file, self._pieces = file, pieces
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            with _named_errors(self._file):
                self._ready = memoryview(self._pieces())
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def is_packed(file: Path) -> bool:
    """Whether a file's content is compressed."""
    return file.suffix.lower() in _UNPACKERS


@contextmanager
def unpacked(file: Path, start: int = 0, encoding: str = "utf-8") -> Iterator["io.BufferedReader[Any]"]:
    """The unpacked content of `file` from byte `start` on; UTF-16 comes as UTF-8, any other encoding as it is.

    Raises DamagedError where packed content is cut short or foreign, also while it is read inside the block; UserError
    where the file can't be read.
    """
    with _opened(file) as packed:
        if is_packed(file) or encoding == "utf-16":
            with unpacked_content(file, packed, encoding) as content:
                _skip(content, start)
                yield content
        else:
            with _named_errors(file):
                packed.seek(start)
            with unpacked_content(file, packed) as content:
                yield content


@contextmanager
def unpacked_content(file: Path, packed: BinaryIO, encoding: str = "utf-8") -> Iterator["io.BufferedReader[Any]"]:
    """What `packed`, which is `file` opened, unpacks to from where it stands; raises as `unpacked` does."""
    with _named_errors(file):
        pieces = _UNPACKERS.get(file.suffix.lower(), _as_it_is)(packed)
    if encoding == "utf-16":
        pieces = _recoded(pieces, encoding)
    with io.BufferedReader(_Content(file, pieces), _READ_BYTES) as content:
        yield content


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    with _named_errors(file):
        packed = file.open("rb")
    with packed:
        yield packed


@contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    with remote_errors(file):
        try:
            yield
        except (*_SPOILT, UnicodeError) as error:
            raise DamagedError(_damage(file, error)) from error
        except OSError as error:
            if error.errno is None and is_packed(file):  # bz2's word for what is no bz2
                raise DamagedError(_damage(file, error)) from error
            if is_remote(file):
                raise
            raise UserError(f"{file} cannot be read: {error.strerror}") from error


def _damage(file: Path, error: Exception) -> str:
    kind = "UTF-16" if isinstance(error, UnicodeError) else file.suffix
    reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    return f"{file} is no whole {kind} file: {reason or 'it ends in the middle'}"


def _skip(content: "io.BufferedReader[Any]", num_bytes: int) -> None:
    while num_bytes > 0 and (part := content.read(min(num_bytes, _READ_BYTES))):
        num_bytes -= len(part)


def _as_it_is(packed: BinaryIO) -> Pieces:
    return lambda: packed.read(_READ_BYTES)


def _zstandard(packed: BinaryIO) -> Pieces:
    """Frames one after the other; zstandard's own reader takes a cut frame for a whole one."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTANDARD_WINDOW_BYTES)
    frame = unpacker.decompressobj(write_size=_READ_BYTES)
    begun = False

    def piece() -> bytes:
        nonlocal frame, begun
        while True:
            rest = frame.unused_data if frame.eof else b""
            rest = rest or packed.read(_PACKED_BYTES)
            if not rest:
                if begun and not frame.eof:
                    raise EOFError("it ends in the middle of a frame")
                return b""
            if frame.eof:
                frame = unpacker.decompressobj(write_size=_READ_BYTES)
            begun = True
            if found := frame.decompress(rest):
                return found

    return piece


def _by_read1(unpack: Callable[[BinaryIO], Any]) -> Callable[[BinaryIO], Pieces]:
    def start(packed: BinaryIO) -> Pieces:
        content = unpack(packed)  # held by the function below
        return lambda: bytes(content.read1(_READ_BYTES))

    return start


_UNPACKERS: dict[str, Callable[[BinaryIO], Pieces]] = {
    ".gz": _by_read1(lambda packed: gzip.GzipFile(fileobj=packed, mode="rb")),
    ".bz2": _by_read1(bz2.BZ2File),
    ".xz": _by_read1(lzma.LZMAFile),
    ".zst": _zstandard,
}


def _recoded(pieces: Pieces, encoding: str) -> Pieces:
    decoder = codecs.getincrementaldecoder(encoding)()

    def piece() -> bytes:
        while True:
            raw = pieces()
            text = decoder.decode(raw, final=not raw)
            if text or not raw:
                return text.encode()

    return piece
