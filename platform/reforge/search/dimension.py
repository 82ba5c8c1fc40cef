"""What is searched: a dimension is one parameter, or several whose values must fit each other, and what it may be."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from reforge.spec.problem import show_value

Condition = tuple[str, frozenset[Any]]  # holds where the path has one of the values, which are frozen
When = tuple[Condition, ...]


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included.

    log: drawn evenly by their logarithm
    step: only `low` and every `step` after it; null: every number, of a range of integers every integer
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    is_int: bool = False

    @property
    def size(self) -> int | None:
        """How many values there are; None where they cannot be counted."""
        step = self.step or (1 if self.is_int else None)
        # 0.6 - 0.1 is a little less than 5 x 0.1.
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    @property
    def last(self) -> float:
        """The highest value of a range that has a size."""
        assert self.size is not None
        return self._nth(self.size - 1)

    @property
    def values(self) -> Sequence[Any]:
        """All values in order, of a range that has a size."""
        assert self.size is not None
        if self.is_int:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        return [self._nth(index) for index in range(self.size)]

    def draw(self, random: Random) -> Any:
        """A value, each as likely as any other, or as its logarithm."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            drawn = min(self.high, max(self.low, math.exp(random.uniform(low, high))))
            return round(drawn) if self.is_int else drawn
        if self.is_int:
            return random.randrange(int(self.low), int(self.high) + 1, int(self.step or 1))
        return random.uniform(self.low, self.high) if self.size is None else self._nth(random.randrange(self.size))

    def holds(self, value: Any) -> bool:
        """Whether the range has this value."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.is_int or self.step is not None:
            steps = (value - self.low) / (self.step or 1)
            return abs(steps - round(steps)) < 1e-6 and (isinstance(value, int) or not self.is_int)
        return True

    def _nth(self, index: int) -> float:
        return round(self.low + index * (self.step or 1), 12)  # 0.3, not 0.1 + 2 x 0.1


@dataclass(frozen=True)
class Choice:
    """One of several values: numbers, text, null, lists; of a joint dimension tuples of them."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A readable text of each value, none twice."""
        texts = tuple(map(_text, self.values))
        if len(set(texts)) == len(texts):
            return texts
        return tuple(json.dumps(value, ensure_ascii=False) for value in self.values)  # the text '8' beside the number

    def draw(self, random: Random) -> Any:
        """A value, each as likely as any other."""
        return random.choice(self.values)

    def holds(self, value: Any) -> bool:
        """Whether it is among the values."""
        return freeze(value) in self._frozen

    def label(self, value: Any) -> str:
        """The text of one of the values."""
        return self.labels[self._frozen.index(freeze(value))]

    def value(self, label: str) -> Any:
        """The value of one of the texts."""
        return self.values[self.labels.index(label)]

    @cached_property
    def _frozen(self) -> tuple[Any, ...]:
        return tuple(map(freeze, self.values))


@dataclass(frozen=True)
class Dimension:
    """One parameter of a search space.

    name: its key path, "optimizer.lr", with [..] after it where other branches have it with other values;
        of a joint dimension all of its names, "model.d_model*model.num_heads"
    domain: what it may be
    when: it is active where every condition holds
    paths: the key paths that it sets; of a joint dimension several, and each value is then a tuple
    """

    name: str
    domain: Range | Choice
    when: When = ()
    paths: tuple[str, ...] = ()

    def settings(self, value: Any) -> dict[str, Any]:
        """What each path gets by one of the dimension's values."""
        return {self.paths[0]: value} if len(self.paths) == 1 else dict(zip(self.paths, value, strict=True))


def freeze(value: Any) -> Any:
    """The same value where values must be hashed: lists as tuples, mappings as tuples of pairs."""
    if isinstance(value, list | tuple):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        return tuple((key, freeze(item)) for key, item in value.items())
    return value


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "*".join(map(_text, value))
    return value if isinstance(value, str) else show_value(value)
