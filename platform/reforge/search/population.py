"""The rounds of a study's population: what each trial goes on as is decided once and kept beside the trial.

every trial has come to the report --settle--> lineage of those that take over --> round, of each that has been judged

Told in this order, so that a driver which dies in between leaves a round that is settled again, to the same end.
"""

from collections.abc import Callable, Collection

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from reforge.search.exploitation import Member, exploit, explore
from reforge.search.points import Violated
from reforge.search.records import ROUND, Takeover, last_chosen, lineage_of, outcome_of
from reforge.search.schedulers import PopulationOptions
from reforge.search.space import Space
from reforge.search.storage import reachable
from reforge.search.telling import Teller


class Population:
    """The trials of one study with one metric.

    seed: of all draws
    where: the study's storage, for messages
    Raises UserError where the storage cannot be reached.
    """

    def __init__(
        self,
        study: optuna.Study,
        options: PopulationOptions,
        space: Space,
        violated: Violated,
        seed: int,
        teller: Teller,
        where: str,
    ) -> None:
        self.options = options
        self._study, self._space, self._violated = study, space, violated
        self._seed, self._teller, self._where = seed, teller, where

    def next_report(self, number: int) -> int:
        """The report at which a trial's round ends."""
        return self._settled(number) + self.options.interval

    def takeover(self, number: int) -> Takeover | None:
        """What a trial goes on as from the round before, None where it is itself."""
        lineage = lineage_of(self._trial(number))
        return lineage[-1] if lineage and lineage[-1].report == self._settled(number) else None

    def settle(self, report: int, waiting: Collection[int], is_kept: Callable[[int], bool]) -> None:
        """Decide who of those that wait goes on as whom, when all that train have come to the report.

        is_kept: whether the weights that a trial had there can be taken over
        """
        with reachable(self._where):
            trials = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
            members = [
                Member(number, trial.intermediate_values[report], is_kept(number))
                for number, trial in trials.items()
                if report in trial.intermediate_values and outcome_of(trial) != "reused"
            ]
            is_max = self._study.direction is StudyDirection.MAXIMIZE
            donors = exploit(self.options, "max" if is_max else "min", self._seed, report, members)
            # Of a donor as it is now: none of the best is among the worst.
            for taker, donor in donors.items():
                if taker in waiting:
                    self._teller.took_over(taker, self._takeover(report, taker, trials[donor]))
            for number in waiting:
                self._teller.settled(number, report)

    def donors(self, report: int) -> set[int]:
        """Those that were taken over at a report."""
        with reachable(self._where):
            trials = self._study.get_trials(deepcopy=False)
        return {each.donor for trial in trials for each in lineage_of(trial) if each.report == report}

    def _takeover(self, report: int, taker: int, donor: FrozenTrial) -> Takeover:
        values = last_chosen(donor, self._space)
        found = explore(self.options, self._space, values, self._violated, self._seed, taker, report)
        return Takeover(report, donor.number, self._space.assignment(found))

    def _settled(self, number: int) -> int:
        return int(self._trial(number).user_attrs.get(ROUND, 0))

    def _trial(self, number: int) -> FrozenTrial:
        with reachable(self._where):
            return self._study.get_trials(deepcopy=False)[number]
