"""What is wrong with a job spec, said so that whoever wrote it can mend it without reading our code."""

import enum
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

KeyPath = tuple[str | int, ...]
_SHOWN_CHARS = 80
_LINE = re.compile(r"(?P<file>.*):(?P<line>\d+)")


class _Missing(enum.Enum):
    """An enum member stays the same object through pickle, so `is MISSING` also holds in a Ray worker."""

    MISSING = "missing"


MISSING: Final = _Missing.MISSING


class UserError(Exception):
    """Anything a user can cause and mend: jobs print its text without a traceback and exit with status 2."""


@dataclass(frozen=True)
class Problem:
    """One rule that a spec breaks.

    path: key path, ("model", "num_heads"); () for the spec as a whole
    rule: what must hold, "must divide d_model (100)"
    got: the value found; left out of the text when MISSING
    nearest: the valid name that was probably meant
    place: "jobs/specs/a.yaml:12" or "command line: a.b=1"; None lets `validate` look it up by the path
    """

    path: KeyPath
    rule: str
    got: object = MISSING
    nearest: str | None = None
    place: str | None = None

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.place, show_path(self.path), self.rule) if part)
        if self.got is not MISSING:
            text += f"; got {show_value(self.got)}"
        if self.nearest is not None:
            text += f"; did you mean {self.nearest}?"
        return text


class SpecError(UserError):
    """Every problem of a spec at once, in the order of its lines.

    where: the spec that was asked for, for the header line
    """

    def __init__(self, problems: Iterable[Problem], where: str | None = None) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=_reading_order))
        self.where = where
        super().__init__(self.problems, where)  # the arguments, so that the error survives pickle

    def __str__(self) -> str:
        count = f"{len(self.problems)} problem" + ("" if len(self.problems) == 1 else "s")
        header = f"{count} in {self.where}:" if self.where else f"{count}:"
        return "\n".join([header, *(f"  {problem}" for problem in self.problems)])


def show_path(path: Sequence[str | int]) -> str:
    """The key path as it is written on the command line: model.layers[2].depth."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if key.isprintable() and "." not in key else repr(key))
    return text


def show_value(value: object) -> str:
    """A value on one line, the way YAML writes it, cut to a readable length."""
    text = _flow(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _flow(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case float() if not math.isfinite(value):
            return str(value).replace("inf", ".inf").replace("nan", ".nan")
        case int() | float() | str():
            return repr(value)
        case _:
            return repr(str(value))


def _reading_order(problem: Problem) -> tuple[bool, str, int, str]:
    place = problem.place or ""
    line = _LINE.fullmatch(place)
    if line is None:
        return place.startswith("command line"), place, 0, show_path(problem.path)
    return False, line["file"], int(line["line"]), show_path(problem.path)
