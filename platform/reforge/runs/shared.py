"""What several runs of one process make alike: made once, kept while it is among the newest."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Of each sort: the folds of a cross-validation that several trials go through, one after the other.
MOST_KEPT = 8


class Shared:
    """Keeps the newest of what was made, by sort and key; nothing that is kept may be changed."""

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[str, Any]] = {}

    def get(self, sort: str, key: str, make: Callable[[], T]) -> T:
        """What was made under this key, or is made now."""
        kept = self._kept.setdefault(sort, OrderedDict())
        if key not in kept:
            kept[key] = make()
            if len(kept) > MOST_KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        made: T = kept[key]
        return made
