"""Optuna's pruners as far as they judge a trial by the storage alone, and those that we judge ourselves for that.

Optuna's SuccessiveHalvingPruner notes in a trial which rungs it has passed while it judges: asked again after a kill it
takes the trial for one that may go on. Its HyperbandPruner knows no brackets in a new process before it is first asked.
The rules here are theirs, over the reports that every process finds alike.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner, PercentilePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from reforge.search.records import outcome_of

# Multiples of it, modulo 1, lie evenly wherever one stops.
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class ReasoningPruner(BasePruner):
    """A pruner of a study with one metric that says why."""

    @abstractmethod
    def why(self, study: optuna.Study, trial: FrozenTrial) -> str | None:
        """Why a trial should stop at its last report; "" where it may go on; None where that report is not judged.

        The same for the same storage, None for the same trial whatever else there is.
        """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return bool(self.why(study, trial))


class KeepingPruner(ReasoningPruner):
    """Stops none."""

    def why(self, study: optuna.Study, trial: FrozenTrial) -> None:
        return None


class HalvingPruner(ReasoningPruner):
    """Asynchronous successive halving (Li et al. 2020), in one bracket or in Hyperband's (Li et al. 2018).

    A trial is judged at reports grace_period x reduction_factor^k, k = bracket, bracket + 1 ...: it goes on when it is
    among the best 1 / reduction_factor of those of its bracket that have come as far, itself among them.

    max_reports: of a whole trial: at its end nothing is left to be saved; None: not known
    """

    def __init__(
        self, grace_period: int, reduction_factor: int, max_reports: int | None = None, num_brackets: int = 1
    ) -> None:
        self._grace_period, self._factor, self._max_reports = grace_period, reduction_factor, max_reports
        # So many trials of a bracket, in proportion, that each bracket trains as many reports (Algorithm 1).
        rungs = range(num_brackets, 0, -1)
        self._shares = [math.ceil(num_brackets * reduction_factor ** (left - 1) / left) for left in rungs]

    def bracket_of(self, number: int) -> int:
        """From 0, which judges earliest and has the most trials."""
        place = number * _GOLDEN_RATIO % 1 * sum(self._shares)
        return next(bracket for bracket in range(len(self._shares)) if place < sum(self._shares[: bracket + 1]))

    def why(self, study: optuna.Study, trial: FrozenTrial) -> str | None:
        report, bracket = trial.last_step, self.bracket_of(trial.number)
        if report is None or not self._is_rung(report, bracket):
            return None
        value = trial.intermediate_values[report]
        if math.isnan(value):
            return f"nan at report {report}"
        rivals = [other for other in study.get_trials(deepcopy=False) if self.bracket_of(other.number) == bracket]
        values = _values_at(report, rivals)  # its own among them
        num_kept = max(1, len(values) // self._factor)
        if value in _best(values, num_kept, study.direction):
            return ""
        best = "the best" if num_kept == 1 else f"among the best {num_kept}"
        group = "" if len(self._shares) == 1 else f" in bracket {bracket}"
        return f"{value:g} at report {report} is not {best} of {len(values)}{group}"

    def _is_rung(self, report: int, bracket: int) -> bool:
        rung = self._grace_period * self._factor**bracket
        while rung < report:
            rung *= self._factor
        return rung == report and (self._max_reports is None or report < self._max_reports)


class ReasoningPercentilePruner(PercentilePruner, ReasoningPruner):
    """Optuna's rule: the best of a trial's reports against what finished trials had at the same report."""

    def why(self, study: optuna.Study, trial: FrozenTrial) -> str:
        report = trial.last_step
        reached = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        with np.errstate(invalid="ignore"):  # the percentiles of infinite reports
            if report is None or (reached and not self.prune(study, trial)):
                return ""
        if not reached:
            return f"nan at report {report}"
        finished = _values_at(report, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        (best,) = _best(reached, 1, study.direction)
        return f"{best:g} by report {report} is not among the best {self._percentile:g} % of {len(finished)} finished"


def _values_at(report: int, trials: Sequence[FrozenTrial]) -> list[float]:
    """What trials had there; one that was reused is not counted twice."""
    own = [trial for trial in trials if report in trial.intermediate_values and outcome_of(trial) != "reused"]
    values = [trial.intermediate_values[report] for trial in own]
    return [value for value in values if not math.isnan(value)]


def _best(values: Sequence[float], count: int, direction: StudyDirection) -> list[float]:
    return sorted(values, reverse=direction is StudyDirection.MAXIMIZE)[:count]
