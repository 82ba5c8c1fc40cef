"""Parallel coordinates: a line a trial, over one axis a parameter and the metric's at the end."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reforge.search.report.drawing import BLUE, INK, ORANGE, PALE, Picture, picture, plain
from reforge.search.report.findings import Findings, Parameter, Scored
from reforge.search.report.limits import Limits, limits
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Parallel coordinates"
_ABSENT = -0.12  # where the line of a trial runs that has not got the parameter; the axes go from 0 to 1
_MOST_LABELS = 8
_MANY = 60  # trials from which on lines are drawn faintly
_COLOURS = (PALE, BLUE)


def parallel_coordinates(found: Findings) -> Section:
    """A picture a metric, of the trials trained to their end."""
    pictures = []
    for index in range(len(found.metrics)):
        trials = [trial for trial in found.scored(index) if trial.is_whole]
        if len(trials) > 1 and found.parameters:
            pictures.append(_picture(found, index, trials))
    if not pictures:
        return Section(TITLE, "Nothing to show yet: it takes two trials trained to their end.")
    note = (
        "A line a trial that was trained to its end; the bluer, the better, and the best is orange. Below the axes run "
        "the trials that have not got the parameter."
    )
    return Section(TITLE, note, pictures)


def _picture(found: Findings, index: int, trials: Sequence[Scored]) -> Picture:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    metric = found.metrics[index]
    shown = limits([trial.value for trial in trials], metric)
    ranges = [_range(found, parameter, trials) for parameter in found.parameters]
    worst_first = sorted(trials, key=lambda trial: trial.value, reverse=metric.mode == "min")

    def draw(axes: "Axes") -> None:
        lines = [list(enumerate(_heights(found, trial, ranges, shown))) for trial in worst_first]
        goodness = [_good(trial, shown, metric.mode) for trial in worst_first]
        colours = LinearSegmentedColormap.from_list("good", _COLOURS)(goodness)
        alpha = 0.7 if len(lines) < _MANY else 0.35
        axes.add_collection(LineCollection(lines[:-1], colors=colours[:-1], linewidths=0.8, alpha=alpha))
        axes.plot(*zip(*lines[-1], strict=True), color=ORANGE, linewidth=2.2)
        names = [*(plain(parameter.name, 28) for parameter in found.parameters), plain(metric.name, 28)]
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set(xlim=(-0.05, len(names) - 0.6), ylim=(_ABSENT - 0.04, 1.04))
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        for place, (parameter, ends) in enumerate(zip(found.parameters, ranges, strict=True)):
            _mark_axis(axes, place, _parameter_ticks(parameter, ends))
        _mark_axis(axes, len(ranges), [(0.0, f"{shown.low:.4g}"), (1.0, f"{shown.high:.4g}")])

    return picture(f"Parallel coordinates of {metric.name} ({index + 1})", 1.05 * (len(ranges) + 1), 3.4, draw)


def _heights(found: Findings, trial: Scored, ranges: Sequence[tuple[float, float]], shown: Limits) -> Iterator[float]:
    stored = found.stored[trial.record.number]
    for parameter, ends in zip(found.parameters, ranges, strict=True):
        yield _height(_scaled(parameter, stored[parameter.name]), ends) if parameter.name in stored else _ABSENT
    yield _height(shown.inside([trial.value])[0], (shown.low, shown.high))


def _height(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return (value - low) / (high - low) if high > low else 0.5


def _scaled(parameter: Parameter, stored: object) -> float:
    place = parameter.place(stored)
    return math.log10(place) if parameter.is_log else place


def _range(found: Findings, parameter: Parameter, trials: Sequence[Scored]) -> tuple[float, float]:
    if parameter.labels:
        return 0.0, float(len(parameter.labels) - 1)
    stored = [found.stored[trial.record.number] for trial in trials]
    values = [_scaled(parameter, each[parameter.name]) for each in stored if parameter.name in each]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _parameter_ticks(parameter: Parameter, ends: tuple[float, float]) -> list[tuple[float, str]]:
    if not parameter.labels:
        values = dict.fromkeys(ends)
        return [(_height(each, ends), f"{10**each if parameter.is_log else each:.3g}") for each in values]
    every = math.ceil(len(parameter.labels) / _MOST_LABELS)
    return [
        (_height(float(place), ends), plain(label, 12))
        for place, label in enumerate(parameter.labels)
        if place % every == 0
    ]


def _mark_axis(axes: "Axes", place: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([place, place], [0, 1], color=INK, linewidth=0.8)
    for height, text in ticks:
        axes.text(place + 0.05, height, text, fontsize=7.5, va="center")


def _good(trial: Scored, shown: Limits, mode: str) -> float:
    """From 0, the worst that is shown, to 1."""
    height = _height(shown.inside([trial.value])[0], (shown.low, shown.high))
    return height if mode == "max" else 1 - height
