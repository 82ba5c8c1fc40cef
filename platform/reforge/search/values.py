"""The metrics of a trial: those that it was told with, or what its reports make of a trial that was stopped."""

import math
from collections.abc import Sequence

from reforge.search.options import MetricOptions
from reforge.search.records import TrialRecord
from reforge.search.validations import scoped


def values_of(record: TrialRecord, metrics: Sequence[MetricOptions]) -> tuple[float, ...]:
    """A value a metric, in their order; () where none is known.

    A trial that did not finish has the value of its reports so far; of several metrics the record has no reports.
    """
    if record.values or len(metrics) > 1:
        return record.values
    reports = [value for _, value in sorted(record.intermediate.items()) if math.isfinite(value)]
    return (scoped(reports, metrics[0]),) if reports else ()
