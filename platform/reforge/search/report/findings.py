"""What a report is made from: the study's trials, read once, and what is known of its parameters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from reforge.search.options import MetricOptions
from reforge.search.records import TrialRecord
from reforge.search.study import Study
from reforge.search.values import values_of


@dataclass(frozen=True)
class Parameter:
    """One dimension of the space as Optuna stores it.

    labels: of a choice, in the order of the space; () of a range
    num_decades: powers of ten that a logarithmic range spans; None: it is not logarithmic
    is_everywhere: every trial has it; of others it hangs on another parameter
    """

    name: str
    labels: tuple[str, ...] = ()
    num_decades: float | None = None
    is_everywhere: bool = True

    @property
    def is_log(self) -> bool:
        """Whether its axis is logarithmic."""
        return self.num_decades is not None

    def place(self, stored: Any) -> float:
        """Where a stored value lies on an axis: a choice at its place among the labels."""
        return float(self.labels.index(stored) if self.labels else stored)


@dataclass(frozen=True)
class Scored:
    """A trial with its value by one metric. is_whole: it was trained to its end."""

    record: TrialRecord
    value: float
    is_whole: bool


@dataclass(frozen=True)
class Findings:
    """A study as its report needs it.

    records: every trial, draws that cost nothing among them
    stored: {trial's number: {parameter: what Optuna stores}}
    complete: Optuna's trials that were trained to their end, here or in an earlier study
    """

    metrics: Sequence[MetricOptions]
    records: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    parameters: Sequence[Parameter]
    stored: Mapping[int, Mapping[str, Any]]
    complete: Sequence[FrozenTrial]

    @cached_property
    def handed_out(self) -> list[TrialRecord]:
        """The trials that had a start of their own: no draws that cost nothing, none of other studies."""
        without = ("waiting", "reused", "skipped", "added")
        return [each for each in self.records if not each.is_free and each.outcome not in without]

    def scored(self, metric: int) -> list[Scored]:
        """The trials with a value by a metric, in the order of their numbers."""
        found = []
        for record in self.records:
            values = values_of(record, self.metrics) if record.outcome in ("finished", "added", "pruned") else ()
            if values and math.isfinite(values[metric]):
                found.append(Scored(record, values[metric], record.outcome != "pruned"))
        return found


def findings(study: Study, metrics: Sequence[MetricOptions]) -> Findings:
    """What the study holds now."""
    records = study.trials
    trials = study.optuna.get_trials(deepcopy=False)
    whole = {record.number for record in records if record.outcome in ("finished", "added")}
    complete = [trial for trial in trials if trial.number in whole]
    stored = {trial.number: trial.params for trial in trials}
    return Findings(metrics, records, study.best, _parameters(trials), stored, complete)


def _parameters(trials: Sequence[FrozenTrial]) -> list[Parameter]:
    drawn = [trial for trial in trials if trial.params]
    drawn = [trial for trial in drawn if trial.state.is_finished()] or drawn  # a running one may be half drawn
    distributions: dict[str, BaseDistribution] = {}
    for trial in drawn:
        distributions |= {name: each for name, each in trial.distributions.items() if name not in distributions}
    return [
        _parameter(name, distribution, all(name in trial.params for trial in drawn))
        for name, distribution in distributions.items()
    ]


def _parameter(name: str, distribution: BaseDistribution, is_everywhere: bool) -> Parameter:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return Parameter(name, tuple(map(str, choices)), is_everywhere=is_everywhere)
        case FloatDistribution(low=low, high=high, log=log) | IntDistribution(low=low, high=high, log=log):
            return Parameter(name, (), math.log10(high / low) if log else None, is_everywhere)
    raise AssertionError(f"{name} has a distribution that no space has: {distribution}")
