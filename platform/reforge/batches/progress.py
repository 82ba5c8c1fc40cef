"""Lines about work under way, now and then."""

import time
from collections.abc import Callable

_EVERY_SECONDS = 2.0


class Progress:
    """Passes a line on at most every two seconds; `line` is only made when it is due."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._last = time.monotonic()

    def __call__(self, line: Callable[[], str]) -> None:
        if time.monotonic() - self._last >= _EVERY_SECONDS:
            self._announce(line())
            self._last = time.monotonic()


class WorkProgress:
    """Progress over parts of known size: documents and bytes of text done, their rates, and the time left.

    purpose: first word of every line
    total_bytes: of all parts, as they were planned; what earlier runs had finished counts as done in no time
    """

    def __init__(self, announce: Callable[[str], None], purpose: str, total_bytes: int) -> None:
        self._progress = Progress(announce)
        self._announce, self._purpose, self._total_bytes = announce, purpose, total_bytes
        self._started = time.monotonic()
        self._documents = self._bytes = 0
        self._parts_bytes = self._found_bytes = 0

    def tick(self, documents: int, num_bytes: int) -> None:
        """Take note of documents and bytes of text done since the last call."""
        self._documents += documents
        self._bytes += num_bytes
        self._progress(self._line)

    def part_done(self, num_bytes: int, found: bool = False) -> None:
        """Take note that a part planned at `num_bytes` is complete. found: an earlier run had finished it."""
        self._parts_bytes += num_bytes
        self._found_bytes += num_bytes if found else 0
        self._progress(self._line)

    def _line(self) -> str:
        seconds = time.monotonic() - self._started
        if not self._documents and not self._parts_bytes:
            return f"{self._purpose}: starting, {seconds:.0f} s"
        line = (
            f"{self._purpose}: {self._documents:,} documents, {self._bytes / 1e6:,.1f} MB, "
            f"{self._documents / seconds:,.0f} documents/s, {self._bytes / 1e6 / seconds:,.1f} MB/s"
        )
        done, total = self._parts_bytes - self._found_bytes, self._total_bytes - self._found_bytes
        if not done:
            return line
        left = seconds * (total - done) / done
        return f"{line}, {self._parts_bytes / self._total_bytes:.0%} done, about {_duration(left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
