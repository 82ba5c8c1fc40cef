"""The metric over the two most important parameters: a surface over two ranges, dots where one of them is a choice."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reforge.search.report.drawing import INK, Picture, mark_parameter, picture, plain
from reforge.search.report.findings import Findings, Parameter, Scored
from reforge.search.report.importances import Importance, why_none
from reforge.search.report.limits import limits
from reforge.search.report.section import Section
from reforge.search.report.slices import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
TITLE = "Contour"
LEAST_TRIALS = 5
_COLOURS = "cividis"
_NUM_CELLS = 40  # of the surface, along each axis
_NUM_LEVELS = 9
_TURNS = (0.754877666246693, 0.569840290998053)  # their multiples spread evenly over a square
_REACH = 0.1  # how far a trial speaks for its neighbourhood, in lengths of the axes


def contour(found: Findings, measured: Mapping[int, Sequence[Importance]]) -> Section:
    """A picture a metric. measured: of each metric what `importances.measure` told."""
    pictures = []
    for index, shares in measured.items():
        whole = [trial for trial in found.scored(index) if trial.is_whole]
        for pair in combinations([_named(found, each.name) for each in shares], 2):
            trials = [trial for trial in whole if _has_all(found, trial, pair)]
            if len(trials) >= LEAST_TRIALS and all(_moves(found, trials, parameter) for parameter in pair):
                pictures.append(_picture(found, index, pair, trials))
                break
    if not pictures:
        return Section(TITLE, f"Nothing to show: {_why_none(found, measured)}.")
    note = (
        "The two most important parameters, by trials trained to their end; the brighter, the better. Between two "
        "ranges the surface is drawn from the trials around (a Gaussian mean), so believe it where there are dots."
    )
    return Section(TITLE, note, pictures)


def _why_none(found: Findings, measured: Mapping[int, Sequence[Importance]]) -> str:
    if not any(measured.values()):
        return f"the two most important parameters are not known ({why_none(found)})"
    return f"it takes two parameters that move the metric and {LEAST_TRIALS} finished trials that have both"


def _picture(found: Findings, index: int, pair: Sequence[Parameter], trials: Sequence[Scored]) -> Picture:
    metric = found.metrics[index]
    shown = limits([trial.value for trial in trials], metric)
    colours = _COLOURS if metric.mode == "max" else f"{_COLOURS}_r"
    across, up = (_places(found, parameter, trials, turn) for parameter, turn in zip(pair, _TURNS, strict=True))
    values = np.array(shown.inside([trial.value for trial in trials]))

    def draw(axes: "Axes") -> None:
        mark_parameter(axes, "x", pair[0])
        mark_parameter(axes, "y", pair[1])
        scale: dict[str, Any] = {"cmap": colours, "vmin": shown.low, "vmax": shown.high}
        if not any(parameter.labels for parameter in pair) and _spans(across) and _spans(up) and _spans(values):
            grid = _surface(_unscaled(across, pair[0]), _unscaled(up, pair[1]), values)
            sides = (_scaled(side, parameter) for side, parameter in zip(grid[:2], pair, strict=True))
            axes.contourf(*sides, grid[2], levels=np.linspace(shown.low, shown.high, _NUM_LEVELS), **scale)
        axes.grid(visible=False)
        marks = axes.scatter(across, up, 22, values, edgecolors=INK, linewidths=0.5, **scale)
        axes.set(xlabel=plain(pair[0].name, 44), ylabel=plain(pair[1].name, 36))
        _legend(axes, marks, metric.name)

    return picture(f"Contour of {metric.name} ({index + 1})", 4.2, 3.2, draw)


def _legend(axes: "Axes", marks: Any, name: str) -> None:
    low, high = marks.get_clim()
    values = np.linspace(low, high, 5)
    for value in values:
        axes.plot([], [], "o", color=marks.to_rgba(value), markersize=6, label=f"{value:.4g}")
    axes.legend(title=plain(name, 24), loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _named(found: Findings, name: str) -> Parameter:
    return next(parameter for parameter in found.parameters if parameter.name == name)


def _has_all(found: Findings, trial: Scored, pair: Sequence[Parameter]) -> bool:
    return all(parameter.name in found.stored[trial.record.number] for parameter in pair)


def _moves(found: Findings, trials: Sequence[Scored], parameter: Parameter) -> bool:
    return len({found.stored[trial.record.number][parameter.name] for trial in trials}) > 1


def _places(found: Findings, parameter: Parameter, trials: Sequence[Scored], turn: float) -> Array:
    stored = ((trial, found.stored[trial.record.number][parameter.name]) for trial in trials)
    return np.array([spread(parameter, value, trial, turn) for trial, value in stored])


def _spans(values: Array) -> bool:
    return bool(values.max() > values.min())


def _unscaled(values: Array, parameter: Parameter) -> Array:
    return np.log10(values) if parameter.is_log else values


def _scaled(values: Array, parameter: Parameter) -> Array:
    return 10.0**values if parameter.is_log else values


def _surface(across: Array, up: Array, values: Array) -> tuple[Array, Array, Array]:
    """The sides of a grid over the trials, and on it their mean, weighted by nearness (Nadaraya-Watson)."""
    sides = [np.linspace(each.min(), each.max(), _NUM_CELLS) for each in (across, up)]
    near = [
        ((side[:, None] - each[None, :]) / (each.max() - each.min())) ** 2
        for side, each in zip(sides, (across, up), strict=True)
    ]
    distances = (near[1][:, None, :] + near[0][None, :, :]) / (2 * _REACH**2)  # [up, across, trials]
    weights = np.exp(distances.min(axis=2, keepdims=True) - distances)
    return sides[0], sides[1], (weights * values).sum(axis=2) / weights.sum(axis=2)
