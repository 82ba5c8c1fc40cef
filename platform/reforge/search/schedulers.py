"""Who stops a trial early, or has it go on as another, because others were better at the same report.

A report is one validation of a trial's training; reports are numbered from 1. Each scheduler judges by what lies in
Optuna's storage alone, so that a search which was killed goes on as it would have. Wilcoxon's test, which Optuna has
too, is not among them: it pairs the scores of single folds, and trials of `cv` and `repeat` report running means.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from reforge.search.pruners import HalvingPruner, KeepingPruner, ReasoningPercentilePruner, ReasoningPruner
from reforge.spec import Part, one_of
from reforge.spec.problem import Problem


class SchedulerOptions(Part, ABC):
    """What every scheduler has: a pruner."""

    kind: str

    @abstractmethod
    def build(self) -> ReasoningPruner:
        """The pruner of a study with one metric; which way is better is the study's."""

    def of_trials(self, num_reports: int) -> Self:
        """The same for whole trials of so many reports, as far as the options leave open what hangs on that."""
        return self


class NoScheduler(SchedulerOptions):
    """No trial is stopped for the sake of others."""

    kind: Literal["none"] = "none"

    def build(self) -> ReasoningPruner:
        return KeepingPruner()


class JudgingScheduler(SchedulerOptions):
    """What judges trials.

    grace_period: the report at which a trial is judged first
    """

    grace_period: int = Field(1, ge=1)


class AshaOptions(JudgingScheduler):
    """Asynchronous successive halving (Li et al. 2020): at a few reports the best part of the trials goes on.

    reduction_factor: one in so many goes on; judged are the reports grace_period x reduction_factor^k
    max_reports: of a whole trial, which is not judged at its last; null: not known
    A search fills in what its spec leaves out: max_reports from the job, and half of it as the grace_period.
    """

    kind: Literal["asha"] = "asha"
    reduction_factor: int = Field(3, ge=2)
    max_reports: int | None = Field(None, ge=1)

    def problems(self) -> Iterator[Problem]:
        """A judgement comes before the end."""
        if self.max_reports is not None and self.grace_period >= self.max_reports:
            yield Problem(("grace_period",), f"must be below max_reports ({self.max_reports})", self.grace_period)

    def of_trials(self, num_reports: int) -> Self:
        # Curves cross: what learns most in the end is behind while its learning rate warms up and is high. On the grid
        # of benchmarks/search.py a sixth of a trial says nothing of its end, a half nearly all.
        num_reports = self.max_reports or num_reports
        unsaid = {"max_reports": num_reports, "grace_period": math.ceil(num_reports / 2)}
        said = self.model_fields_set
        return self.model_copy(update={key: value for key, value in unsaid.items() if key not in said})

    def build(self) -> ReasoningPruner:
        return HalvingPruner(self.grace_period, self.reduction_factor, self.max_reports)


class HyperbandOptions(JudgingScheduler):
    """Successive halving with several grace periods at once (Li et al. 2018), where curves may cross late.

    Every trial belongs to a bracket by its number; bracket b, from 0, is judged from report grace_period x
    reduction_factor^b on. The sampler learns from the trials of all brackets, as in BOHB (Falkner et al. 2018).

    max_reports: of a whole trial
    reduction_factor: one in so many goes on
    """

    kind: Literal["hyperband"] = "hyperband"
    max_reports: int = Field(ge=1)
    reduction_factor: int = Field(3, ge=2)

    @property
    def num_brackets(self) -> int:
        """1 + the floor of log(max_reports / grace_period) to the base of the factor."""
        count = 1
        while self.grace_period * self.reduction_factor**count <= self.max_reports:
            count += 1
        return count

    def problems(self) -> Iterator[Problem]:
        """One bracket is no Hyperband."""
        least = self.grace_period * self.reduction_factor
        if self.max_reports < least:
            rule = f"must be at least grace_period x reduction_factor ({least}), or there is one bracket: take asha"
            yield Problem(("max_reports",), rule, self.max_reports)

    def build(self) -> ReasoningPruner:
        return HalvingPruner(self.grace_period, self.reduction_factor, self.max_reports, self.num_brackets)


class MedianOptions(JudgingScheduler):
    """Stops a trial whose best report is worse than the median of the finished trials at the same report.

    percentile: what is among the best so many per cent goes on; 50 is the median
    min_trials: so many must have finished with such a report
    interval: reports from one judgement to the next
    """

    kind: Literal["median"] = "median"
    percentile: float = Field(50.0, gt=0, lt=100)
    min_trials: int = Field(5, ge=1)
    interval: int = Field(1, ge=1)

    def build(self) -> ReasoningPruner:
        return ReasoningPercentilePruner(
            self.percentile,
            n_startup_trials=0,  # n_min_trials says it of those that have reported as far
            n_warmup_steps=self.grace_period,
            interval_steps=self.interval,
            n_min_trials=self.min_trials,
        )


class PopulationOptions(SchedulerOptions):
    """Population-based training (Jaderberg et al. 2017): all trials train side by side, in rounds, and none is stopped.

    After each round the worst trials take over the weights of some of the best, and go on with their parameters moved a
    little. A round is over when every trial has come to its report, so that who takes over from whom hangs on the
    seed and the trials' values alone; where there is room for fewer trials than there are, they take turns. The
    search's num_trials is the size of the population.

    interval: reports of a round
    quantile: the share of the trials that are among the best, and among the worst
    perturb: factors, one of which a number is multiplied by; of a choice a neighbouring value is taken
    resample_prob: with this probability a parameter is drawn anew instead
    min_population: fewer trials at the end of a round are not compared
    """

    kind: Literal["pbt"] = "pbt"
    interval: int = Field(1, ge=1)
    quantile: float = Field(0.25, gt=0, le=0.5)
    perturb: tuple[float, ...] = Field((0.8, 1.25), min_length=1)
    resample_prob: float = Field(0.25, ge=0, le=1)
    min_population: int = Field(4, ge=2)

    def problems(self) -> Iterator[Problem]:
        """A factor changes a number, and not its sign."""
        for index, factor in enumerate(self.perturb):
            if not 0 < factor < math.inf or factor == 1:
                yield Problem(("perturb", index), "must be above 0, finite, and not 1", factor)

    def build(self) -> ReasoningPruner:
        return KeepingPruner()


SCHEDULERS: Mapping[str, type[SchedulerOptions]] = {
    "none": NoScheduler,
    "asha": AshaOptions,
    "hyperband": HyperbandOptions,
    "median": MedianOptions,
    "pbt": PopulationOptions,
}

if TYPE_CHECKING:
    AnyScheduler = SchedulerOptions
else:
    AnyScheduler = one_of(SCHEDULERS)
