"""When each trial ran: bars in as many rows as trials ran at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reforge.search.records import TrialRecord
from reforge.search.report.drawing import OUTCOME_COLOURS, Picture, legend_above, picture
from reforge.search.report.findings import Findings
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Trial timeline"
_UNITS = (
    (2 * 86400.0, 86400.0, "days"),
    (2 * 3600.0, 3600.0, "hours"),
    (120.0, 60.0, "minutes"),
    (0.0, 1.0, "seconds"),
)
_LEAST_TO_NUMBER = 0.02  # of the picture's width, that a bar takes which has its number on it
_Bar = tuple[TrialRecord, float, float]  # a trial, from and to, in seconds since the first began


def timeline(found: Findings, now: datetime) -> Section:
    """One picture. now: until when trials last that still run."""
    trials = [trial for trial in found.handed_out if trial.began is not None]
    if not trials:
        return Section(TITLE, "Nothing to show yet: no trial has begun.")
    bars = _bars(trials, now)
    note = "When each trial ran, its number on the bar; as many rows as trials ran at a time."
    return Section(TITLE, note, [_picture(bars, _rows(bars))])


def _bars(trials: Sequence[TrialRecord], now: datetime) -> list[_Bar]:
    spans = [(trial, _clock(trial.began or now), _clock(trial.ended or now)) for trial in trials]
    first = min(began for _, began, _ in spans)
    return sorted(((trial, began - first, ended - first) for trial, began, ended in spans), key=lambda bar: bar[1])


def _clock(time: datetime) -> float:
    """Optuna keeps the local time without its zone."""
    return time.astimezone(UTC).timestamp()


def _rows(bars: Sequence[_Bar]) -> list[int]:
    """For each bar the first row that is free when it begins."""
    free: list[float] = []
    rows = []
    for _, began, ended in bars:
        row = next((row for row, until in enumerate(free) if until <= began), len(free))
        free[row : row + 1] = [ended]
        rows.append(row)
    return rows


def _picture(bars: Sequence[_Bar], rows: Sequence[int]) -> Picture:
    last = max(ended for _, _, ended in bars) or 1.0
    unit, name = next((unit, name) for least, unit, name in _UNITS if last >= least)

    def draw(axes: "Axes") -> None:
        named: set[str] = set()
        for (trial, began, ended), row in zip(bars, rows, strict=True):
            label = None if trial.outcome in named else trial.outcome
            named.add(trial.outcome)
            width = (ended - began) / unit
            colour = OUTCOME_COLOURS[trial.outcome]
            axes.barh(row, width, 0.8, left=began / unit, color=colour, edgecolor="white", linewidth=0.3, label=label)
            if ended - began > _LEAST_TO_NUMBER * last * len(str(trial.number)) / 2:
                middle = (began + ended) / 2 / unit
                axes.text(middle, row, str(trial.number), fontsize=7, color="white", ha="center", va="center")
        axes.set(xlabel=f"{name} since the first trial began", xlim=(0, last / unit), ylim=(max(rows) + 0.6, -0.6))
        axes.set_yticks([])
        legend_above(axes)

    return picture("Timeline of the trials", 7.0, 0.5 + 0.24 * (max(rows) + 1), draw)
