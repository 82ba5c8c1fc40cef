"""A file, or what begins between two offsets of it, line by line; what is wrong with it is said or counted.

    offset    0 ............ start ................ stop ...........
    lines     a line | a line |  a line | a line   |  a line | a line
    cuts                      ^ the first cut at or after `start` .. ^ the first cut at or after `stop`

A cut is any line, or a line before which a document may begin. Neighbouring ranges see the same cuts, so every line is
read by exactly one of them.
"""

import codecs
import math
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from reforge.corpora.encoding import Encoding, advice
from reforge.corpora.streams import DamagedError, unpacked
from reforge.corpora.tally import Tally
from reforge.spec import UserError

OnBadRecord = Literal["fail", "skip"]
CutBefore = Callable[[str], bool]
_LINE_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 20


class Reader:
    """The lines of `file` from the first cut at or after `start` up to the first one at or after `stop`.

    on_bad_record: `fail` ends with a UserError at what can't be read, `skip` counts it in `tally` and goes on
    offset: of the line that was yielded last, in bytes of the unpacked content
    num_bad: how many records were counted as bad so far
    """

    def __init__(
        self,
        file: Path,
        name: str,
        tally: Tally,
        on_bad_record: OnBadRecord = "fail",
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.file, self.name, self.tally, self.on_bad_record = file, name, tally, on_bad_record
        self.start, self.stop = start, stop
        self.offset = start
        self.num_bad = 0
        self._encoding: Encoding = "utf-8"
        self._mark_bytes = 0  # of the byte order mark before the first line
        self._begun = False
        self._lines_read = 0
        self._lines_before: int | None = None if start else 0

    def lines(self, cut_before: CutBefore | None = None, encoding: Encoding = "utf-8") -> Iterator[str]:
        """Lines without their ends; a byte order mark is no text. Cuts are where `cut_before` says so, or anywhere."""
        codec = "utf-8" if encoding == "utf-16" else encoding
        for raw in self.raw_lines(cut_before, encoding):
            try:
                line: str | None = raw.decode(codec)
            except UnicodeDecodeError:
                line = None
            if line is None or "\0" in line or line.endswith("\r"):
                line = self.decoded(raw)
            if line is not None:
                yield line

    def raw_lines(self, cut_before: CutBefore | None = None, encoding: Encoding = "utf-8") -> Iterator[bytes]:
        """`lines` as they are in the file, without b"\\n" but with a b"\\r" before it; UTF-16 comes as UTF-8."""
        self._encoding = encoding
        try:
            with unpacked(self.file, max(0, self.start - 1), encoding) as content:
                yield from self._between_cuts(content, cut_before)
        except DamagedError as error:
            # Counted by the range that the damage ends, not by those that lie behind it.
            if self.on_bad_record == "fail" or self._begun or not self.start:
                self.bad("rest of a damaged file", str(error), placed=True)

    def decoded(self, raw: bytes) -> str | None:
        """The text of the line that was yielded last; None where it is bad."""
        try:
            line = raw.decode(self._line_encoding())
        except UnicodeDecodeError as error:
            self._bad_encoding(raw, error.start)
            return None
        if "\0" in line:
            self.bad("line with NUL bytes", "must be text, holds NUL bytes as UTF-16 and binary files do")
            return None
        return line.removesuffix("\r")

    def first_line(self, encoding: Encoding = "utf-8") -> str:
        """The first line of the whole file that is not blank, "" where there is none; it may tell the file's layout."""
        with unpacked(self.file, 0, encoding) as content:
            codec = "utf-8" if encoding == "utf-16" else encoding
            for raw in iter(lambda: content.readline(_LINE_BYTES), b""):
                if line := raw.removeprefix(codecs.BOM_UTF8).decode(codec, errors="replace").strip():
                    return line
        return ""

    def bad(self, reason: str, message: str, *, placed: bool = False) -> None:
        """Raise UserError with file, line and `message`, or count one dropped record by `reason`.

        placed: the message names the place itself
        """
        self.num_bad += 1
        if self.on_bad_record == "fail":
            raise UserError(message if placed else f"{self.place()}: {message}")
        self.tally.drop(reason)
        if self.tally.wants_trouble:
            self.tally.tell_trouble(message if placed else f"{self.place()}: {message}")

    def place(self) -> str:
        """Where the last line is, "file:line"; "file: byte offset" where the line's number would cost a reading."""
        if self.on_bad_record == "skip" and self._lines_before is None:
            return f"{self.file}: byte {self.offset}"
        return f"{self.file}:{self.line_number()}"

    def line_number(self) -> int:
        """Number of the last line in the whole file, from 1 on; found by reading up to the range's start."""
        if self._lines_before is None:
            self._lines_before = self._count_lines(self.start - 1)
        return self._lines_before + self._lines_read

    def _count_lines(self, num_bytes: int) -> int:
        number = 0
        with unpacked(self.file, 0, self._encoding) as content:
            while num_bytes and (part := content.read(min(num_bytes, _BLOCK_BYTES))):
                number += part.count(b"\n")
                num_bytes -= len(part)
        return number

    def _between_cuts(self, content: "BufferedReader[Any]", cut_before: CutBefore | None) -> Iterator[bytes]:
        stop = math.inf if self.stop is None else self.stop
        begun = self.start == 0
        for offset, lines in _batches(content, max(0, self.start - 1)):
            for raw in lines:
                self._lines_read += 1
                self.offset, offset = offset, offset + len(raw) + 1
                if self.offset < self.start:
                    continue  # the line that began before this range, or its end
                too_long = len(raw) > _LINE_BYTES
                if not begun or self.offset >= stop:
                    is_cut = cut_before is None or (not too_long and cut_before(self._shown(raw)))
                    if is_cut and self.offset >= stop:
                        return
                    begun = self._begun = begun or is_cut
                if begun and too_long:
                    self.bad("line too long", f"a line of more than {_LINE_BYTES >> 20} MiB")
                elif begun:
                    yield raw if self.offset else self._without_mark(raw)

    def _without_mark(self, raw: bytes) -> bytes:
        line = raw.removeprefix(codecs.BOM_UTF8)
        self._mark_bytes = len(raw) - len(line)
        return line

    def _line_encoding(self) -> str:
        return "utf-8" if self._encoding == "utf-16" else self._encoding

    def _shown(self, raw: bytes) -> str:
        return raw.decode(self._line_encoding(), errors="replace").rstrip("\r")

    def _bad_encoding(self, raw: bytes, at: int) -> None:
        expected = self._line_encoding().upper()
        offset = self.offset + at + (self._mark_bytes if self.offset == 0 else 0)
        message = (
            f"{self.file} is not {expected}: byte 0x{raw[at]:02x} at offset {offset}. {advice(raw[at:], expected)}"
        )
        self.bad(f"line that is not {expected}", message, placed=True)


class _TooLong(bytes):
    """A line that is not kept in memory; only its length is known."""

    def __new__(cls, length: int) -> "_TooLong":
        line = super().__new__(cls)
        line.length = length
        return line

    length: int

    def __len__(self) -> int:
        return self.length


def _batches(content: "BufferedReader[Any]", offset: int) -> Iterator[tuple[int, list[bytes]]]:
    """All lines, many at a time, with the offset of the first one. A line beyond the limit is a `_TooLong`."""
    begun: list[bytes] = []
    begun_bytes = given_up = 0
    while block := content.read1(_BLOCK_BYTES):
        end = block.rfind(b"\n")
        if end < 0:
            begun.append(block)
            begun_bytes += len(block)
            if begun_bytes + given_up > _LINE_BYTES:
                begun, given_up, begun_bytes = [], given_up + begun_bytes, 0
            continue
        lines = b"".join([*begun, block[:end]]).split(b"\n")
        if given_up:
            lines[0] = _TooLong(given_up + len(lines[0]))
        yield offset, lines
        offset += sum(map(len, lines)) + len(lines)
        begun, begun_bytes, given_up = [block[end + 1 :]], len(block) - end - 1, 0
    if given_up or begun_bytes:
        yield offset, [_TooLong(given_up + begun_bytes) if given_up else b"".join(begun)]
