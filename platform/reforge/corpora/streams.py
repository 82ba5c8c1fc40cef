"""The content of files, unpacked on the way: .gz, .bz2, .xz and .zst by their endings, any other as it is."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import zstandard

from reforge.corpora.place import remote_errors
from reforge.spec import UserError

_READ_BYTES = 1 << 20
_SPOILT = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError)


class DamagedError(UserError):
    """A packed file that ends in the middle or holds something else."""


class _Zstandard(io.RawIOBase):
    """Frames of a Zstandard file, one after the other; zstandard's own reader takes a cut frame for a whole one."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._packed.read(_READ_BYTES)
            if not packed:
                if self._begun and not self._frame.eof:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._begun = True
            self._ready = memoryview(self._frame.decompress(packed))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._packed.close()
        super().close()


_UNPACKERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _Zstandard,
}


def is_packed(file: Path) -> bool:
    """Whether a file's content is compressed."""
    return file.suffix.lower() in _UNPACKERS


@contextmanager
def unpacked(file: Path, start: int = 0) -> Iterator[BinaryIO]:
    """The unpacked content of `file` from byte `start` on.

    Raises DamagedError where packed content is cut short or foreign, also while it is read inside the block; UserError
    where the file can't be read.
    """
    try:
        with remote_errors(file), file.open("rb") as packed, unpacked_content(file, packed) as content:
            _skip(content, start, seekable=content is packed)
            yield content
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


@contextmanager
def unpacked_content(file: Path, packed: Any) -> Iterator[BinaryIO]:
    """What the open file `packed` unpacks to; raises DamagedError where it is cut short or foreign."""
    unpack = _UNPACKERS.get(file.suffix.lower())
    try:
        yield io.BufferedReader(unpack(packed), _READ_BYTES) if unpack else packed
    except _SPOILT as error:
        raise DamagedError(f"{file} is no whole {file.suffix} file: {error or 'it ends in the middle'}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedError(f"{file} is no whole {file.suffix} file: {error}") from error  # bz2's word for no bz2


def _skip(content: BinaryIO, num_bytes: int, seekable: bool) -> None:
    if seekable:
        content.seek(num_bytes)
        return
    while num_bytes > 0 and (part := content.read(min(num_bytes, _READ_BYTES))):
        num_bytes -= len(part)
