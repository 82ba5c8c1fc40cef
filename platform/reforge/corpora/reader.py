"""A file, or what begins between two offsets of it, line by line; what is wrong with it is said or counted.

    offset    0 ............ start ................ stop ...........
    lines     a line | a line |  a line | a line   |  a line | a line
    cuts                      ^ the first cut at or after `start` .. ^ the first cut at or after `stop`

A cut is any line, or a line before which a document may begin. Neighbouring ranges see the same cuts, so every line is
read by exactly one of them.
"""

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from reforge.corpora.streams import DamagedError, unpacked
from reforge.corpora.tally import Tally
from reforge.spec import UserError

OnBadRecord = Literal["fail", "skip"]
CutBefore = Callable[[str], bool]
_LINE_BYTES = 1 << 28
_COUNT_BYTES = 1 << 20


class Reader:
    """The lines of `file` from the first cut at or after `start` up to the first one at or after `stop`.

    on_bad_record: `fail` ends with a UserError at what can't be read, `skip` counts it in `tally` and goes on
    offset: of the line that was yielded last, in bytes of the unpacked content
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

    def lines(self, cut_before: CutBefore | None = None) -> Iterator[str]:
        """Lines without their ends; a byte order mark is no text. Cuts are where `cut_before` says so, or anywhere."""
        try:
            with unpacked(self.file, max(0, self.start - 1)) as content:
                yield from self._lines(content, cut_before)
        except DamagedError as error:
            self.bad("rest of a damaged file", str(error), placed=True)

    def first_line(self) -> str:
        """The first line of the whole file that is not blank, "" where there is none; it may tell the file's layout."""
        with unpacked(self.file) as content:
            for raw in iter(lambda: content.readline(_LINE_BYTES), b""):
                if line := raw.removeprefix(codecs.BOM_UTF8).decode(errors="replace").strip():
                    return line
        return ""

    def bad(self, reason: str, message: str, *, placed: bool = False) -> None:
        """Raise UserError with file, line and `message`, or count one dropped record by `reason`.

        placed: the message names the place itself
        """
        if self.on_bad_record == "fail":
            raise UserError(message if placed else f"{self.place()}: {message}")
        self.tally.drop(reason)
        if self.tally.wants_trouble:
            self.tally.tell_trouble(message if placed else f"{self.place()}: {message}")

    def place(self) -> str:
        """Where the last line is, "file:line"."""
        return f"{self.file}:{self.line_number()}"

    def line_number(self) -> int:
        """Number of the last line in the whole file, from 1 on; found by reading up to it."""
        number, left = 1, self.offset
        with unpacked(self.file) as content:
            while left and (part := content.read(min(left, _COUNT_BYTES))):
                number += part.count(b"\n")
                left -= len(part)
        return number

    def _lines(self, content: BinaryIO, cut_before: CutBefore | None) -> Iterator[str]:
        offset = max(0, self.start - 1)
        if self.start:
            offset += len(content.readline())  # the line that began before this range, or its end
        begun = self.start == 0
        while raw := content.readline(_LINE_BYTES):
            self.offset, offset = offset, offset + len(raw)
            if not begun or (self.stop is not None and self.offset >= self.stop):
                is_cut = cut_before is None or cut_before(raw.decode(errors="replace").rstrip("\r\n"))
                if is_cut and self.stop is not None and self.offset >= self.stop:
                    return
                begun = begun or is_cut
            if begun and (line := self._decoded(raw)) is not None:
                yield line

    def _decoded(self, raw: bytes) -> str | None:
        line = raw.removeprefix(codecs.BOM_UTF8) if self.offset == 0 else raw
        if len(raw) == _LINE_BYTES and not raw.endswith(b"\n"):
            self.bad("line too long", f"a line of more than {_LINE_BYTES >> 20} MiB")
            return None
        try:
            return line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            at = self.offset + len(raw) - len(line) + error.start
            message = (
                f"{self.file} is not UTF-8: byte 0x{line[error.start]:02x} at offset {at}. "
                "Convert the file to UTF-8 (iconv -f CP949 -t UTF-8), leave it out, or set on_bad_record to skip"
            )
            self.bad("line that is not UTF-8", message, placed=True)
            return None
