"""The scheduler at work: what it says of a report is kept beside it, so that whoever asks again is told the same."""

import copy
from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial

from reforge.search.pruners import KeepingPruner
from reforge.search.records import JUDGED
from reforge.search.schedulers import SchedulerOptions
from reforge.search.telling import Teller


class Pruning:
    """Judges the trials of one study.

    A trial is judged at once when it has reported. `unjudged`: numbers of trials that a process left running when it
    died, perhaps between the two; they are judged now, while the storage is as it was.
    """

    def __init__(
        self, study: optuna.Study, options: SchedulerOptions, teller: Teller, unjudged: Iterable[int] = ()
    ) -> None:
        self._study, self._options, self._teller = study, options, teller
        self._pruner = options.build()
        study.pruner = self._pruner
        for number in unjudged:
            self.why(number)

    def why(self, number: int) -> str:
        """Why a trial should be pruned, "" where it goes on."""
        trial = self._study.get_trials(deepcopy=False)[number]
        judged, said = trial.user_attrs.get(JUDGED, (0, ""))
        if isinstance(self._pruner, KeepingPruner):
            return ""
        for report in sorted(step for step in trial.intermediate_values if step > judged):
            if said:
                break
            why = self._pruner.why(self._study, _until(report, trial))
            if why is not None:
                said = f"{self._options.kind}: {why}" if why else ""
                self._teller.judged(number, report, said)
        return str(said)


def _until(report: int, trial: FrozenTrial) -> FrozenTrial:
    """The trial as it was at a report: several may come at once where a driver died before it had told them."""
    then = copy.copy(trial)
    then.intermediate_values = {step: value for step, value in trial.intermediate_values.items() if step <= report}
    return then
