"""The metric against each parameter, one small picture a parameter."""

from typing import TYPE_CHECKING

from reforge.search.report.drawing import Picture, dots, longest_upright, mark_parameter, plain, small_picture
from reforge.search.report.findings import Findings, Parameter, Scored
from reforge.search.report.limits import Limits, limits
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Slices"
_GOLDEN = 0.618033988749895  # its multiples spread evenly over an interval


def slices(found: Findings) -> Section:
    """Every parameter by every metric; of a conditional parameter only the trials that have it."""
    pictures = []
    for index in range(len(found.metrics)):
        if trials := found.scored(index):
            shown = limits([trial.value for trial in trials], found.metrics[index])
            pictures += [_picture(found, index, trials, shown, parameter) for parameter in found.parameters]
    if not pictures:
        return Section(TITLE, "Nothing to show yet: no trial has reported a value.")
    note = (
        "Dots: trials trained to their end; crosses: stopped ones, where their reports had brought them. A conditional "
        "parameter has the trials in which it takes part."
    )
    return Section(TITLE, note, pictures, is_grid=True)


def _picture(found: Findings, index: int, trials: list[Scored], shown: Limits, parameter: Parameter) -> Picture:
    metric = found.metrics[index].name

    def draw(axes: "Axes") -> None:
        mark_parameter(axes, "x", parameter)
        for is_whole in (False, True):
            some = [
                trial
                for trial in trials
                if trial.is_whole is is_whole and parameter.name in found.stored[trial.record.number]
            ]
            across = [spread(parameter, found.stored[trial.record.number][parameter.name], trial) for trial in some]
            dots(axes, across, shown.inside([trial.value for trial in some]), is_whole)
        axes.set(ylim=(shown.low, shown.high), ylabel=plain(metric, 28))
        axes.set_title(plain(parameter.name, 40), loc="left")

    return small_picture(f"{parameter.name} against {metric} ({index + 1})", longest_upright(parameter), draw)


def spread(parameter: Parameter, stored: object, trial: Scored, turn: float = _GOLDEN) -> float:
    """Where a trial is drawn: those of one label beside each other. turn: another one along another axis."""
    aside = 0.5 * (trial.record.number * turn % 1.0 - 0.5) if parameter.labels else 0.0
    return parameter.place(stored) + aside
