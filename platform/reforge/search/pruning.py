"""The scheduler at work: what it says of a report is kept beside it, so that whoever asks again is told the same."""

from collections.abc import Iterable

import optuna

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
        """Why a trial should be pruned at its last report, "" where it goes on."""
        trial = self._study.get_trials(deepcopy=False)[number]
        judged, said = trial.user_attrs.get(JUDGED, (None, ""))
        if judged is not None and judged == trial.last_step:
            return str(said)
        why = self._pruner.why(self._study, trial)
        if why is None or trial.last_step is None:
            return ""
        said = f"{self._options.kind}: {why}" if why else ""
        self._teller.judged(number, trial.last_step, said)
        return said
