"""Times as a spec writes them: 45s, 30m, 2h, 1h30m."""

import re
from collections.abc import Iterator

from reforge.spec.problem import KeyPath, Problem

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"(?:{_NUMBER}[dhms])+")


def duration_problems(path: KeyPath, written: str | None) -> Iterator[Problem]:
    """What is wrong with a time; null is none."""
    if written is not None and not _DURATION.fullmatch(written):
        yield Problem(path, "must be a time such as 45s, 30m, 2h or 1h30m", written)


def seconds_in(written: str) -> float:
    """The same in seconds."""
    assert _DURATION.fullmatch(written), "said by duration_problems"
    return sum(_UNITS[part[-1]] * float(part[:-1]) for part in re.findall(rf"{_NUMBER}[dhms]", written))
