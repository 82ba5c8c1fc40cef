"""The metric of each trial, and the best so far."""

from typing import TYPE_CHECKING

import numpy as np

from reforge.search.report.drawing import GREEN, SKY, Picture, count_whole, dots, legend_above, picture, plain
from reforge.search.report.findings import Findings, Scored
from reforge.search.report.limits import Limits, limits
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "History"


def history(found: Findings) -> Section:
    """A picture a metric: every trial by its number."""
    pictures, note = [], ""
    for index in range(len(found.metrics)):
        if trials := found.scored(index):
            shown = limits([trial.value for trial in trials], found.metrics[index])
            pictures.append(_picture(found, index, trials, shown))
            note += shown.note
    if not pictures:
        return Section(TITLE, "Nothing to show yet: no trial has reported a value.")
    text = "Each trial by its number; the line is the best of those trained to their end. Stopped trials stand where "
    return Section(TITLE, f"{text}their reports had brought them. {note}", pictures)


def _picture(found: Findings, index: int, trials: list[Scored], shown: Limits) -> Picture:
    metric = found.metrics[index]

    def draw(axes: "Axes") -> None:
        whole = [trial for trial in trials if trial.is_whole]
        own = [trial for trial in whole if trial.record.outcome == "finished"]
        stopped = [trial for trial in trials if not trial.is_whole]
        for some, is_whole, label in ((own, True, "finished"), (stopped, False, "stopped early")):
            if some:
                dots(axes, _numbers(some), shown.inside([each.value for each in some]), is_whole, label)
        if added := [trial for trial in whole if trial.record.outcome == "added"]:
            values = shown.inside([each.value for each in added])
            axes.plot(_numbers(added), values, "s", color=SKY, markersize=4, label="of an earlier study")
        if whole:
            best = np.maximum if metric.mode == "max" else np.minimum
            values = shown.inside([float(value) for value in best.accumulate([each.value for each in whole])])
            ends = [*_numbers(whole), found.records[-1].number]
            axes.plot(
                ends, [*values, values[-1]], color=GREEN, drawstyle="steps-post", linewidth=1.6, label="best so far"
            )
        axes.set(xlabel="trial", ylabel=plain(metric.name, 40), ylim=(shown.low, shown.high))
        count_whole(axes.xaxis)
        legend_above(axes)

    return picture(f"History of {metric.name} ({index + 1})", 7.0, 3.0, draw)


def _numbers(trials: list[Scored]) -> list[int]:
    return [trial.record.number for trial in trials]
