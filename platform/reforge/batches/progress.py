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
