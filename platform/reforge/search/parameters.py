"""The dimensions of a space in Optuna's words.

A choice is stored by its labels: Optuna's categories are scalars, those of a space may be lists.
"""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from reforge.search.conditions import holds
from reforge.search.dimension import Choice, Dimension, Range, When
from reforge.search.space import Space
from reforge.spec.problem import show_value

Key = tuple[tuple[str, Any], ...]


def distribution_of(domain: Range | Choice) -> BaseDistribution:
    """Optuna's word for what a dimension may be."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.labels)
    high = domain.high if domain.step is None else domain.values[-1]  # Optuna warns where the last step ends below it
    if domain.is_int:
        return IntDistribution(int(domain.low), int(high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, high, log=domain.log, step=domain.step)


def suggest(trial: optuna.Trial, space: Space, before_each: Callable[[int], None]) -> None:
    """Draws every active dimension of the space, in its order; what was drawn before a kill stays.

    before_each: called with the index of each dimension, to seed it: whether those before it were drawn just now or by
        a process that died makes no difference then
    """
    settings: dict[str, Any] = {}
    for index, dimension in enumerate(space.dimensions):
        if holds(dimension.when, settings):
            before_each(index)
            settings |= dimension.settings(read(dimension, _draw(trial, dimension)))


def _draw(trial: optuna.Trial, dimension: Dimension) -> Any:
    match distribution_of(dimension.domain):
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(dimension.name, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(dimension.name, low, high, log=log, step=step)
        case _:
            assert isinstance(dimension.domain, Choice)
            return trial.suggest_categorical(dimension.name, dimension.domain.labels)


def read(dimension: Dimension, parameter: Any) -> Any:
    """The value that stands behind what Optuna stores."""
    if isinstance(dimension.domain, Choice):
        return dimension.domain.value(parameter)
    return round(parameter, 12) if dimension.domain.step else parameter  # 0.3, not 0.1 + 2 x 0.1


def write(dimension: Dimension, value: Any) -> Any:
    """What Optuna stores for one of the dimension's values."""
    if isinstance(dimension.domain, Choice):
        return dimension.domain.label(value)
    return int(value) if dimension.domain.is_int else float(value)


def parameters(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """{dimension: value} as Optuna's parameters."""
    return {each.name: write(each, values[each.name]) for each in space.dimensions if each.name in values}


def key_of(stored: Mapping[str, Any]) -> Key:
    """The same for equal trials; a step's multiple may differ in its last bits from one sampler to the next."""
    return tuple(
        (name, f"{value:.12g}" if isinstance(value, float) else value) for name, value in sorted(stored.items())
    )


def describe(space: Space) -> dict[str, str]:
    """What a study is bound to: by dimension its distribution and when it is active, by path its constants."""
    constants = {
        f"constant {fixed.path}": show_value(fixed.value) + _conditions(fixed.when) for fixed in space.constants
    }
    return {f"space {dimension.name}": _description(dimension) for dimension in space.dimensions} | constants


def _description(dimension: Dimension) -> str:
    domain = dimension.domain
    if isinstance(domain, Choice):
        return f"[{', '.join(domain.labels)}]{_conditions(dimension.when)}"
    told = {"low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step, "is_int": domain.is_int}
    return show_value({name: value for name, value in told.items() if value}) + _conditions(dimension.when)


def _conditions(when: When) -> str:
    return "".join(f" when {path} is {' or '.join(sorted(map(str, allowed)))}" for path, allowed in when)
