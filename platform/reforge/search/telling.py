"""How each end of a trial is told to Optuna."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from reforge.search.judging import OnDuplicate, Verdict
from reforge.search.records import (
    FACTS,
    FREE,
    HANDED_OUT,
    JUDGED,
    LINEAGE,
    OUTCOME,
    ROUND,
    SOURCE,
    TRACEBACK,
    WHY,
    Takeover,
    is_finite,
    lineage_of,
    outcome_of,
)

_TRACEBACK_CHARS = 10_000
# How Optuna itself writes that a constraint is broken; samplers then rank the trial below every feasible one.
_BROKEN = optuna.trial.create_trial(value=0.0, constraints={"feasible": 1.0}).system_attrs


class Teller:
    """Writes to one study; trials go by their numbers, whether this process asked for them or one that died."""

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        self._study, self._storage = study, storage
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def id_of(self, number: int) -> int:
        """The storage's own name of a trial."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def hand_out(self, number: int) -> None:
        """From now on a driver that finds it running hands it out again."""
        self._note(number, **{HANDED_OUT: True})

    def report(self, number: int, step: int, values: float | Sequence[float]) -> None:
        """Optuna keeps steps of one value only; of several they are an attribute."""
        if isinstance(values, int | float):
            self._storage.set_trial_intermediate_value(self.id_of(number), step, float(values))
        elif len(values) == 1:
            self._storage.set_trial_intermediate_value(self.id_of(number), step, float(values[0]))
        else:
            self._note(number, **{f"step {step}": list(values)})

    def measured(self, number: int, facts: Mapping[str, float | str]) -> None:
        """What was measured of a trial beside its metrics, in place of what was said of it before."""
        self._note(number, **{FACTS: dict(facts)})

    def judged(self, number: int, report: int, why: str) -> None:
        """What the scheduler said of a report, "" where the trial goes on."""
        self._note(number, **{JUDGED: [report, why]})

    def took_over(self, number: int, takeover: Takeover) -> None:
        """What a trial goes on as from a report, in place of what was said of that report before."""
        trial = self._study.get_trials(deepcopy=False)[number]
        lineage = [each for each in lineage_of(trial) if each.report != takeover.report]
        self._note(number, **{LINEAGE: [asdict(each) for each in (*lineage, takeover)]})

    def settled(self, number: int, report: int) -> None:
        """The trial's population has been judged at a report."""
        self._note(number, **{ROUND: report})

    def finish(self, number: int, values: float | Sequence[float], why: str = "") -> None:
        """What is not finite has diverged."""
        all_values = [float(values)] if isinstance(values, int | float) else [float(value) for value in values]
        if is_finite(all_values):
            if why:
                self._note(number, **{WHY: why})
            self._study.tell(number, all_values)
        else:
            self.diverge(number, f"the metric is {', '.join(map(str, all_values))}")

    def diverge(self, number: int, why: str) -> None:
        """Optuna takes nan for a failure and then forgets the trial; pruned alone, it would rank by how far it came."""
        self._note(number, **{OUTCOME: "diverged", WHY: why})
        self._tell_broken(number)

    def prune(self, number: int, why: str) -> None:
        """Optuna takes the last intermediate value as the trial's."""
        self._note(number, **{WHY: why})
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, why: str, traceback: str) -> None:
        """The end of a long traceback is kept."""
        self._note(number, **{WHY: why, TRACEBACK: traceback[-_TRACEBACK_CHARS:]})
        self._study.tell(number, state=TrialState.FAIL)

    def infeasible(self, number: int, why: str) -> None:
        """Pruned, with a broken constraint: a failure would be forgotten, and drawn again and again."""
        self._note(number, **{OUTCOME: "infeasible", WHY: why})
        self._tell_broken(number)

    def known(self, trial: FrozenTrial, verdict: Verdict, on_duplicate: OnDuplicate, is_free: bool) -> None:
        """Ends a draw that is not trained.

        is_free: it is not handed out either, and takes none of num_trials
        """
        number, earlier = trial.number, verdict.earlier
        if is_free:
            self._note(number, **{FREE: True})
        if verdict.action == "infeasible":
            self.infeasible(number, verdict.why)
        elif verdict.action == "skip" or (on_duplicate == "skip" and is_free):
            assert earlier is not None
            self._note(number, **{OUTCOME: "skipped", SOURCE: earlier.number})
            self._study.tell(number, state=TrialState.FAIL)  # what samplers do not see
        else:
            assert earlier is not None
            self._reuse(number, earlier)

    def _reuse(self, number: int, earlier: FrozenTrial) -> None:
        self._note(number, **{OUTCOME: "reused", SOURCE: earlier.number, WHY: outcome_of(earlier)})
        if earlier.state is TrialState.COMPLETE:
            self._study.tell(number, earlier.values)
            return
        for step, value in list(earlier.intermediate_values.items())[-1:]:
            self._storage.set_trial_intermediate_value(self.id_of(number), step, value)
        self._study.tell(number, state=earlier.state)

    def _tell_broken(self, number: int) -> None:
        for name, value in _BROKEN.items():
            self._storage.set_trial_system_attr(self.id_of(number), name, value)
        self._study.tell(number, state=TrialState.PRUNED)

    def _note(self, number: int, **attributes: object) -> None:
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self.id_of(number), name, value)
