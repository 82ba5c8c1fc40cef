"""What a trial has reached, report by report, and the values that it is compared by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reforge.search.options import MetricOptions


@dataclass(frozen=True)
class Validation:
    """One report of a trial: a validation of a run, or the end of one of several runs.

    number: from 1
    step: of the run
    seconds: of training and evaluation up to it
    values: every figure that was validated, {"valid/accuracy": 0.9, ...}
    """

    number: int
    step: int
    seconds: float
    values: Mapping[str, float]


def value_of(metric: MetricOptions, history: Sequence[Validation], facts: Mapping[str, float]) -> float:
    """What a trial is compared by: one of its facts, or its reports' values by the metric's scope; nan without any."""
    if metric.name in facts:
        return facts[metric.name]
    return scoped([each.values.get(metric.name, math.nan) for each in history], metric)


def scoped(values: Sequence[float], metric: MetricOptions) -> float:
    """The best, last or mean of a metric's values, one a report; nan where the last one is, or there is none."""
    if not values or math.isnan(values[-1]):
        return math.nan
    finite = [value for value in values if not math.isnan(value)]
    match metric.scope:
        case "last":
            return values[-1]
        case "mean":
            return fmean(finite)
        case "best":
            return max(finite) if metric.mode == "max" else min(finite)
