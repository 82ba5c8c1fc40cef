"""The trials that none other beats in all metrics, each pair of metrics in a picture."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from reforge.search.options import MetricOptions
from reforge.search.report.drawing import GREY, RED, Picture, legend_above, picture, plain
from reforge.search.report.findings import Findings
from reforge.search.report.limits import limits
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Pareto front"
_MOST_NUMBERED = 15


def pareto(found: Findings) -> Section:
    """A picture a pair of metrics."""
    if len(found.metrics) == 1:
        return Section(TITLE, "One metric has one best trial; a front takes several.")
    if not found.best:
        return Section(TITLE, "Nothing to show yet: no trial has finished.")
    pairs = combinations(range(len(found.metrics)), 2)
    note = (
        f"{len(found.best)} of {len(found.complete)} finished trials are beaten by none other in all metrics; of more "
        "than two metrics a picture shows two, so that the front need not look like an edge."
    )
    return Section(TITLE, note, [_picture(found, first, second) for first, second in pairs], is_grid=True)


def _picture(found: Findings, first: int, second: int) -> Picture:
    front = {trial.number for trial in found.best}
    values = {trial.record.number: (trial.value,) for trial in found.scored(first) if trial.is_whole}
    others = {trial.record.number: trial.value for trial in found.scored(second) if trial.is_whole}
    places = {number: (*value, others[number]) for number, value in values.items() if number in others}

    def draw(axes: "Axes") -> None:
        shown = [limits([place[side] for place in places.values()], found.metrics[at]) for side, at in _sides]
        for is_front, colour, size, label in ((False, GREY, 4.0, "beaten"), (True, RED, 5.5, "front")):
            some = [place for number, place in places.items() if (number in front) is is_front]
            across, up = (shown[side].inside([place[side] for place in some]) for side in (0, 1))
            axes.plot(across, up, "o", color=colour, markersize=size, alpha=0.8, markeredgewidth=0, label=label)
        for number in sorted(front & places.keys())[:_MOST_NUMBERED]:
            at = [shown[side].inside([places[number][side]])[0] for side in (0, 1)]
            axes.annotate(str(number), (at[0], at[1]), (3, 3), textcoords="offset points", fontsize=7)
        axes.set(xlabel=_named(found.metrics, first), ylabel=_named(found.metrics, second))
        axes.set(xlim=(shown[0].low, shown[0].high), ylim=(shown[1].low, shown[1].high))
        legend_above(axes)

    _sides = ((0, first), (1, second))
    return picture(f"Front of {first + 1} and {second + 1}", 3.6, 2.8, draw)


def _named(metrics: Sequence[MetricOptions], index: int) -> str:
    return f"{plain(metrics[index].name, 30)} ({metrics[index].mode})"
