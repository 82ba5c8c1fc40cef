"""How much of a metric's axis is worth showing: one trial that went astray shall not flatten all others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reforge.search.options import MetricOptions

_FARTHEST = 3.0  # times the distance from the best to the worse quarter


@dataclass(frozen=True)
class Limits:
    """From `low` to `high` is shown; num_beyond: values that are drawn at the edge, as they lie beyond it."""

    low: float
    high: float
    num_beyond: int

    def inside(self, values: Sequence[float]) -> list[float]:
        """The values, those beyond at the edge."""
        return [min(self.high, max(self.low, value)) for value in values]

    @property
    def note(self) -> str:
        """What to say of it, "" where all is shown."""
        return f"{self.num_beyond} values lie beyond the axis and are drawn at its edge. " if self.num_beyond else ""


def limits(values: Sequence[float], metric: MetricOptions) -> Limits:
    """What to show of one or more finite values."""
    sign = 1.0 if metric.mode == "min" else -1.0
    costs = np.sort(sign * np.asarray(values, dtype=float))
    best, worse, worst = costs[0], np.quantile(costs, 0.75), costs[-1]
    edge = best + _FARTHEST * (worse - best)
    last = worst if worse == best else min(edge, worst)
    room = 0.05 * (last - best) or 0.05 * abs(best) or 0.5
    ends = sorted((float(sign * (best - room)), float(sign * (last + room))))
    return Limits(ends[0], ends[1], int(np.sum(costs > last + room)))
