"""The curves of all trials by report, and where those ended that were stopped."""

import math
from typing import TYPE_CHECKING, NamedTuple

from reforge.search.options import MetricOptions
from reforge.search.records import Outcome, TrialRecord
from reforge.search.report.drawing import INK, OUTCOME_COLOURS, Picture, count_whole, legend_above, picture, plain
from reforge.search.report.findings import Findings
from reforge.search.report.limits import Limits, limits
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Early stopping"
_DRAWN: tuple[Outcome, ...] = ("pruned", "infeasible", "failed", "diverged", "running", "finished")  # the last on top
_MOST_POINTS = 100  # of a curve
_MANY = 60  # trials from which on curves are drawn faintly


class _Look(NamedTuple):
    colour: str
    label: str | None
    width: float
    alpha: float


def early_stopping(found: Findings) -> Section:
    """One picture; of several metrics Optuna keeps no curves."""
    if len(found.metrics) > 1:
        return Section(TITLE, "Nothing to show: with several metrics Optuna keeps no values of reports.")
    metric = found.metrics[0]
    reported = [trial for trial in found.handed_out if _finite(trial)]
    if not reported:
        return Section(TITLE, "Nothing to show yet: no trial has reported a value.")
    shown = limits([value for trial in reported for value in _finite(trial).values()], metric)
    note = "Each trial's reports (its validations); a cross is where a trial ended that was not trained to its end. "
    outside = f" {shown.num_beyond} values lie outside the picture." if shown.num_beyond else ""
    return Section(TITLE, f"{note}{_reports_note(found)}{outside}", [_picture(found, reported, shown, metric)])


def _reports_note(found: Findings) -> str:
    stopped = [trial for trial in found.handed_out if trial.outcome == "pruned"]
    longest = max(len(trial.intermediate) for trial in found.handed_out)
    if not stopped:
        return "No trial was stopped early."
    mean = sum(len(trial.intermediate) for trial in stopped) / len(stopped)
    return f"{len(stopped)} trials were stopped early, after {mean:.1f} reports on average; the longest has {longest}."


def _picture(found: Findings, trials: list[TrialRecord], shown: Limits, metric: MetricOptions) -> Picture:
    alpha = 0.7 if len(trials) < _MANY else 0.35

    def draw(axes: "Axes") -> None:
        for outcome in _DRAWN:
            for place, trial in enumerate(each for each in trials if each.outcome == outcome):
                _draw_curve(
                    axes, trial, shown, _Look(OUTCOME_COLOURS[outcome], outcome if place == 0 else None, 0.9, alpha)
                )
        for trial in found.best:
            if _finite(trial):
                _draw_curve(axes, trial, shown, _Look(INK, "best", 1.8, 1.0))
        axes.set(xlabel="report", ylabel=plain(metric.name, 40), ylim=(shown.low, shown.high))
        count_whole(axes.xaxis)
        legend_above(axes)

    return picture("Curves of all trials", 7.0, 3.4, draw)


def _draw_curve(axes: "Axes", trial: TrialRecord, shown: Limits, look: _Look) -> None:
    points = _finite(trial)
    every = math.ceil(len(points) / _MOST_POINTS)
    steps = [*list(points)[:-1][::every], list(points)[-1]]
    values = [points[step] for step in steps]
    marker = "." if len(points) == 1 else ""
    axes.plot(steps, values, marker=marker, color=look.colour, linewidth=look.width, alpha=look.alpha, label=look.label)
    if trial.outcome not in ("finished", "running"):
        axes.plot(steps[-1], shown.inside(values)[-1], "x", color=look.colour, markersize=4.5, alpha=look.alpha)


def _finite(trial: TrialRecord) -> dict[int, float]:
    return {step: value for step, value in sorted(trial.intermediate.items()) if math.isfinite(value)}
