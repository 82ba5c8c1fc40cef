"""The columns of a table of trials, as many of them as a width has room for."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

GAP = 2
WIDEST_PARAMETER = 16
LONGEST_NUMBER = 7
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


@dataclass(frozen=True)
class TrialRow:
    """What a table shows of one trial.

    status: running, or what became of it
    parameters: {key path: label}, of those that differ from trial to trial
    reports: how many there are
    values: of the metrics, in their order; by the reports so far while it runs
    seconds: since it began
    step, total_steps: how far its training is, 0 where that is not known
    why: of what was not finished
    """

    number: int
    status: str
    parameters: Mapping[str, str]
    reports: int = 0
    values: Sequence[float] = ()
    seconds: float = 0.0
    step: int = 0
    total_steps: int = 0
    why: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it is being trained now."""
        return self.status == "running"


@dataclass(frozen=True)
class Column:
    """One column; `rank` says what is left out first where it is narrow: the highest."""

    heading: str
    cells: tuple[str, ...]
    rank: int = 0
    is_right: bool = False
    widest: int = 24

    @property
    def width(self) -> int:
        """Of its widest cell, as far as that may be."""
        return min(max(map(cell_len, (self.heading, *self.cells))), self.widest)


def columns_for(
    rows: Sequence[TrialRow], statuses: Sequence[str], metrics: Sequence[str], seconds: Callable[[TrialRow], str]
) -> list[Column]:
    """All columns of `rows` in the order in which they stand; what has no cell has no column."""
    paths = list(dict.fromkeys(path for row in rows for path in row.parameters))
    names = short_names(paths)
    columns = [
        Column("trial", tuple(str(row.number) for row in rows), is_right=True),
        Column("", tuple(statuses)),
        *(_values(rows, index, name) for index, name in enumerate(short_names(metrics).values())),
        Column("reports", tuple(str(row.reports or "") for row in rows), 2, is_right=True),
        Column("time", tuple(map(seconds, rows)), 1, is_right=True),
        *(_labels(rows, path, names[path], 4 + index) for index, path in enumerate(paths)),
        Column("", tuple(map(note, rows)), 3),
    ]
    return [column for column in columns if any(column.cells)]


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Those that `width` has room for; of the parameters the first ones, and later ones that are narrow enough.

    The last one, the note where there is one, has what is left over.
    """
    kept: list[int] = []
    for index in sorted(range(len(columns)), key=lambda index: columns[index].rank):
        if sum(columns[each].width + GAP for each in (*kept, index)) - GAP <= width:
            kept.append(index)
    if not kept:
        return []
    *before, last = (columns[index] for index in sorted(kept))
    return [*before, replace(last, widest=width - sum(each.width + GAP for each in before))]


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """{path: its last part}, and as many parts more as tell it from the others."""
    parts = {path: path.replace("/", ".").split(".") for path in paths}
    lengths = dict.fromkeys(parts, 1)
    while True:
        names = {path: ".".join(parts[path][-lengths[path] :]) for path in parts}
        taken = list(names.values())
        clashing = [path for path in names if taken.count(names[path]) > 1 and lengths[path] < len(parts[path])]
        if not clashing:
            return names
        for path in clashing:
            lengths[path] += 1


def short(label: str) -> str:
    """A label on one line, a long number with the digits that matter: 3.1e-04."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(label.split()))
    is_long = len(line) > LONGEST_NUMBER and NUMBER.fullmatch(line)
    return figure(float(line)) if is_long else line


def figure(value: float) -> str:
    """A number in at most eight letters or so."""
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:.1e}"


def score(value: float) -> str:
    """A metric's value, with as many decimals as its neighbours in a column."""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 100 else figure(value)


def note(row: TrialRow) -> str:
    """How far a trial is, or why it was not finished."""
    if row.is_running:
        return f"step {row.step:,}/{row.total_steps:,}" if row.total_steps else ""
    return short(row.why)


def _values(rows: Sequence[TrialRow], index: int, name: str) -> Column:
    cells = tuple(score(row.values[index]) if index < len(row.values) else "" for row in rows)
    return Column(name, cells, is_right=True)


def _labels(rows: Sequence[TrialRow], path: str, name: str, rank: int) -> Column:
    return Column(name, tuple(short(row.parameters.get(path, "-")) for row in rows), rank, widest=WIDEST_PARAMETER)
