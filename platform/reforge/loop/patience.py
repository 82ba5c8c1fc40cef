"""Storage that is gone for a while (a network's file system, a mount) is waited for: it mostly comes back."""

import errno
import re
import time
from collections.abc import Callable
from typing import TypeVar

from safetensors import SafetensorError

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 1.0
# A full disk or a lack of rights does not pass by waiting. A mount that is gone leaves an empty folder behind.
_PASSING = {
    getattr(errno, name)
    for name in ("ENOENT", "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV", "ENXIO")
    if hasattr(errno, name)
}


def patiently(write: Callable[[], T], say: Callable[[str], None]) -> T:
    """What `write` gives, tried again as long as its error may pass, for a minute; then it is raised."""
    began = time.monotonic()
    has_said = False
    while True:
        try:
            return write()
        except (OSError, SafetensorError) as error:
            if number_of(error) not in _PASSING or time.monotonic() - began > PATIENCE_SECONDS:
                raise
            if not has_said:
                say(f"warning: the storage is gone ({error}): waiting for it, up to {PATIENCE_SECONDS:.0f} s")
                has_said = True
        time.sleep(_PAUSE_SECONDS)


def number_of(error: OSError | SafetensorError) -> int | None:
    """The system's number of an error; safetensors has it in its words."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None
