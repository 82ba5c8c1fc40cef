"""The best trials of an earlier study as the first of a new one, as far as they fit its space."""

from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from reforge.search.identity import metrics_of
from reforge.search.options import WarmStartOptions
from reforge.search.parameters import distribution_of, parameters
from reforge.search.points import Violated, whole
from reforge.search.records import OUTCOME, front, lineage_of, outcome_of
from reforge.search.space import Space
from reforge.search.storage import open_storage, reachable
from reforge.spec import UserError

_ENQUEUED = "from_study"


def warm_start(
    study: optuna.Study, options: WarmStartOptions, here: str, space: Space, violated: Violated
) -> list[str]:
    """Enqueues or adds the earlier study's best trials; what comes back says how many, and what was left out and why.

    here: the new study's storage. Doing it twice adds nothing twice. Raises UserError where there is no such study, or
    values of other metrics would be added.
    """
    earlier = _load(options, here)
    if options.by == "add" and metrics_of(earlier) != metrics_of(study):
        raise UserError(
            f"warm_start: by: add takes values over, but study {options.study!r} has {_metrics(earlier)} and this one "
            f"{_metrics(study)}; use by: enqueue"
        )
    best = _best(earlier, options.top_k)
    notes = [note for trial in best if (note := _take_over(study, trial, options, space, violated)) is not None]
    taken = len(best) - sum(note.startswith("warm start: left out") for note in notes)
    word = "enqueued" if options.by == "enqueue" else "added"
    return [f"warm start: {taken} of the {len(best)} best trials of {options.study} {word}", *notes]


def _load(options: WarmStartOptions, here: str) -> optuna.Study:
    where = options.storage or here
    storage = open_storage(where, must_exist=True)
    with reachable(where):
        names = [study.study_name for study in storage.get_all_studies()]
        if options.study not in names:
            there = f"it has {', '.join(names)}" if names else "it has none"
            raise UserError(f"warm_start: storage {where} has no study {options.study!r}; {there}")
        return optuna.load_study(study_name=options.study, storage=storage)


def _best(study: optuna.Study, top_k: int) -> list[FrozenTrial]:
    """The best first; with several metrics one Pareto front after the other."""
    rest = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if _is_own(trial)]
    return list(_ranked(rest, study.directions))[:top_k]


def _is_own(trial: FrozenTrial) -> bool:
    return outcome_of(trial) == "finished" and all(value <= 0 for value in trial.constraints.values())


def _ranked(trials: list[FrozenTrial], directions: Sequence[StudyDirection]) -> Iterator[FrozenTrial]:
    while trials:
        best = front(trials, directions)
        yield from best
        numbers = {trial.number for trial in best}
        trials = [trial for trial in trials if trial.number not in numbers]


def _take_over(
    study: optuna.Study, trial: FrozenTrial, options: WarmStartOptions, space: Space, violated: Violated
) -> str | None:
    """Enqueues or adds one trial; what comes back says what of it was left out, None where nothing was."""
    parameters = _fitting(trial, space)
    assignment = whole(parameters, space)
    why = violated(assignment) if assignment is not None else ()
    name = f"trial {trial.number} of {options.study}"
    if not parameters or why or (options.by == "add" and assignment is None):
        reason = why[0] if why else "its parameters are not those of the space"
        return f"warm start: left out {name}: {reason}"
    source = {_ENQUEUED: f"{options.study}:{trial.number}"}
    if any(other.user_attrs.get(_ENQUEUED) == source[_ENQUEUED] for other in study.get_trials(deepcopy=False)):
        return None
    if options.by == "enqueue":
        study.enqueue_trial(parameters, user_attrs=source)
    else:
        study.add_trial(_finished(parameters, trial, space, source))
    dropped = sorted(trial.params.keys() - parameters.keys())
    return f"warm start: of {name} without {', '.join(dropped)}, which the space has not" if dropped else None


def _fitting(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """The trial's parameters that the new space has, with these values; of a population those that it had last."""
    if lineage := lineage_of(trial):
        return parameters(space, space.values_of(lineage[-1].assignment))
    found = {}
    for dimension in space.dimensions:
        parameter = trial.params.get(dimension.name)
        labels = getattr(dimension.domain, "labels", None)
        if parameter is not None and (parameter in labels if labels else dimension.domain.holds(parameter)):
            found[dimension.name] = parameter
    return found


def _finished(parameters: dict[str, Any], trial: FrozenTrial, space: Space, source: dict[str, Any]) -> FrozenTrial:
    domains = {dimension.name: dimension.domain for dimension in space.dimensions}
    return optuna.trial.create_trial(
        params=parameters,
        distributions={name: distribution_of(domains[name]) for name in parameters},
        values=trial.values,
        user_attrs={OUTCOME: "added", **source},
    )


def _metrics(study: optuna.Study) -> str:
    return ", ".join(metrics_of(study)) or "metrics that it does not name"
