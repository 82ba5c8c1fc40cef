"""When a trial has trained long enough, judged by its own reports alone.

What ends a trial *finishes* it: its value is the reports' so far, and it can be the best. What stops a trial because it
is not good enough *prunes* it, as the schedulers do that compare it with others. A metric that is no number is
*diverged*.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from reforge.spec import Part
from reforge.spec.durations import duration_problems, seconds_in
from reforge.spec.problem import Problem

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Reached:
    """One report of a trial.

    number: from 1
    value: of the metric; of several, of the first, and nan where any is
    seconds: that the trial had trained until then, all starts together
    """

    number: int
    value: float
    seconds: float


@dataclass(frozen=True)
class Stop:
    """That a trial is at its end.

    outcome: finished with the value that it has, pruned as one not worth its time, diverged
    why: in words, for the record of the trial
    """

    outcome: Literal["finished", "pruned", "diverged"]
    why: str


class PlateauOptions(Part):
    """A curve that has become flat.

    reports: so many, the last ones
    spread: from the lowest of their values to the highest, at most
    """

    reports: int = Field(ge=2)
    spread: float = Field(ge=0)


class ThresholdOptions(Part):
    """What a trial has to reach by a time.

    after: of training, "10m"; it is judged at its first report from then on, and at each that follows
    value: that its best report has to reach
    """

    after: str
    value: float

    def problems(self) -> Iterator[Problem]:
        """A time is a number with its unit."""
        yield from duration_problems(("after",), self.after)


class StopOptions(Part):
    """When a trial ends before its own job does. With several metrics the first is judged, and nan of any.

    patience: ends it after so many reports in a row that were not better; null: never
    min_delta: a report is better when it beats the last one that was by more than this; for patience
    plateau: ends it when its curve is flat; null: never
    nan: a metric that is nan or infinite ends it at once, as diverged
    threshold: prunes it when it has not reached a value by a time; null: never
    max_time: ends it at its first report after so much training, "30m"; null: no limit
    max_reports: ends it at this report; null: no limit
    """

    patience: int | None = Field(None, ge=1)
    min_delta: float = Field(0.0, ge=0)
    plateau: PlateauOptions | None = None
    nan: bool = True
    threshold: ThresholdOptions | None = None
    max_time: str | None = None
    max_reports: int | None = Field(None, ge=1)

    def problems(self) -> Iterator[Problem]:
        """Rules that can't apply, and times without their units."""
        yield from duration_problems(("max_time",), self.max_time)
        if self.min_delta and self.patience is None:
            yield Problem(
                ("min_delta",), "says what patience takes for better, and there is no patience", self.min_delta
            )
        if self.max_reports is None:
            return
        if self.patience is not None and self.patience >= self.max_reports:
            yield Problem(("patience",), f"must be below max_reports ({self.max_reports})", self.patience)
        if self.plateau is not None and self.plateau.reports > self.max_reports:
            rule = f"must be at most max_reports ({self.max_reports})"
            yield Problem(("plateau", "reports"), rule, self.plateau.reports)


def stop(options: StopOptions, mode: Mode, history: Sequence[Reached]) -> Stop | None:
    """Whether a trial with these reports, in their order, is at its end; None where it goes on."""
    if not history:
        return None
    last = history[-1]
    if options.nan and not math.isfinite(last.value):
        return Stop("diverged", f"the metric is {last.value} at report {last.number}")
    gains = [reached.value if mode == "max" else -reached.value for reached in history]
    for why in (_limits(options, last), _patience(options, gains), _plateau(options, gains)):
        if why:
            return Stop("finished", why)
    why = _threshold(options, mode, history)
    return Stop("pruned", why) if why else None


def _limits(options: StopOptions, last: Reached) -> str:
    if options.max_reports is not None and last.number >= options.max_reports:
        return f"max_reports: report {last.number}"
    if options.max_time is not None and last.seconds >= seconds_in(options.max_time):
        return f"max_time: {options.max_time} are over at report {last.number}"
    return ""


def _patience(options: StopOptions, gains: Sequence[float]) -> str:
    best, since = -math.inf, 0
    for gain in gains:
        if gain > best + options.min_delta:
            best, since = gain, 0
        else:
            since += 1
    if options.patience is None or since < options.patience:
        return ""
    return f"patience: no better report in {since}" + (f", by {options.min_delta:g}" if options.min_delta else "")


def _plateau(options: StopOptions, gains: Sequence[float]) -> str:
    plateau = options.plateau
    if plateau is None or len(gains) < plateau.reports:
        return ""
    last = gains[-plateau.reports :]
    is_flat = all(map(math.isfinite, last)) and max(last) - min(last) <= plateau.spread
    return f"plateau: the last {plateau.reports} reports lie within {plateau.spread:g}" if is_flat else ""


def _threshold(options: StopOptions, mode: Mode, history: Sequence[Reached]) -> str:
    threshold, last = options.threshold, history[-1]
    if threshold is None or last.seconds < seconds_in(threshold.after):
        return ""
    values = [reached.value for reached in history if not math.isnan(reached.value)]
    best = (max if mode == "max" else min)(values, default=math.nan)
    is_reached = best >= threshold.value if mode == "max" else best <= threshold.value
    return "" if is_reached else f"threshold: {best:g} after {threshold.after}, not {threshold.value:g}"
