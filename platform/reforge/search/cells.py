"""The combinations of a finite space, for grids and for what a sampler no longer finds by itself."""

from collections.abc import Collection
from typing import Any

import numpy as np

from reforge.search.parameters import Key, key_of, parameters
from reforge.search.points import Violated
from reforge.search.space import Space, cells

MAX_CELLS = 20_000


def unlisted(space: Space) -> str | None:
    """Why the combinations of the space cannot be listed, None where they can."""
    for dimension in space.dimensions:
        if dimension.domain.size is None:
            return f"{dimension.name} has no step"
    size = space.size() or 0
    return f"it has {size:,} combinations, more than {MAX_CELLS:,}" if size > MAX_CELLS else None


class Cells:
    """All combinations of a finite space in an order that the seed shuffles."""

    def __init__(self, space: Space, seed: int, violated: Violated) -> None:
        listed = [space.values_of(settings) for settings in cells(space.dimensions)]
        self._values = [listed[index] for index in np.random.default_rng(seed).permutation(len(listed))]
        self._keys = [key_of(parameters(space, values)) for values in self._values]
        self._space, self._violated = space, violated

    def untried(self, tried: Collection[Key]) -> dict[str, Any] | None:
        """Optuna's parameters of the first feasible combination that is not among the tried, None where none is."""
        for key, values in zip(self._keys, self._values, strict=True):
            if key not in tried and not self._violated(self._space.assignment(values)):
                return parameters(self._space, values)
        return None
