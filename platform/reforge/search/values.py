"""The metrics of a trial: those that it was told with, or what its reports make of a trial that was stopped."""

import math
from collections.abc import Sequence

from reforge.search.options import MetricOptions
from reforge.search.records import TrialRecord


def values_of(record: TrialRecord, metrics: Sequence[MetricOptions]) -> tuple[float, ...]:
    """A value a metric, in their order; () where none is known.

    A trial that did not finish has the value of its reports so far; of several metrics the record has no reports.
    """
    if record.values or len(metrics) > 1:
        return record.values
    reports = [value for _, value in sorted(record.intermediate.items()) if math.isfinite(value)]
    return (_scoped(reports, metrics[0]),) if reports else ()


def _scoped(reports: Sequence[float], metric: MetricOptions) -> float:
    match metric.scope:
        case "last":
            return reports[-1]
        case "mean":
            return sum(reports) / len(reports)
        case "best":
            return max(reports) if metric.mode == "max" else min(reports)
