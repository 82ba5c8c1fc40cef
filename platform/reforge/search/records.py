"""What became of each trial, read from the storage's own states and a few attributes beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Literal

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from reforge.search.parameters import read
from reforge.search.space import Space

Outcome = Literal[
    "waiting", "running", "finished", "pruned", "diverged", "failed", "infeasible", "reused", "skipped", "added"
]

# Attributes of a trial, as optuna-dashboard shows them.
OUTCOME = "outcome"  # where the state alone does not say it
FREE = "free"  # a draw that was not handed out: it does not count to num_trials
HANDED_OUT = "handed_out"
WHY = "why"
SOURCE = "source"
TRACEBACK = "traceback"
JUDGED = "judged"  # [report, why it should be pruned there, "" where it goes on]
FACTS = "facts"  # what was measured beside the metrics
ROUND = "round"  # the report up to which its population has been judged
LINEAGE = "lineage"  # what it took over from others of its population, in order

_BY_STATE: Mapping[TrialState, Outcome] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Takeover:
    """That a trial of a population goes on from a report as another one.

    donor: whose weights it took over there
    assignment: {key path: value} that it goes on with
    """

    report: int
    donor: int
    assignment: Mapping[str, object]


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study.

    number: from 0; draws that cost nothing have one too
    outcome: finished; pruned early; diverged (nan); failed (it raised); infeasible (it cannot be trained); reused
        (equal to `source`, whose values it has); skipped (equal to an earlier one); added (of an earlier study)
    values: of the metrics, in their order; () where there are none
    chosen: {dimension: value}; of a population's trial, as the assignment, what it has had last
    assignment: {key path: value}
    intermediate: {step: value}
    why: of what was not finished, or ended early
    seconds: from when it was handed out, None while it runs
    began, ended: the same as times of the clock, without a zone as the storage has them: the local one
    facts: what was measured beside the metrics: {"num_parameters": 33_000_000, "peak_memory_gib": 1.2}
    lineage: what it took over from others of its population, in order
    """

    number: int
    outcome: Outcome
    values: tuple[float, ...]
    chosen: Mapping[str, object]
    assignment: Mapping[str, object]
    intermediate: Mapping[int, float]
    why: str
    traceback: str
    source: int | None
    seconds: float | None
    is_free: bool
    began: datetime | None = None
    ended: datetime | None = None
    facts: Mapping[str, float | str] = field(default_factory=dict)
    lineage: tuple[Takeover, ...] = ()


def outcome_of(trial: FrozenTrial) -> Outcome:
    """What became of it; a trial that is still running has no other outcome yet."""
    state = _BY_STATE[trial.state]
    said: Outcome = trial.user_attrs.get(OUTCOME, state)
    return said if trial.state.is_finished() else state


def is_trained(trial: FrozenTrial) -> bool:
    """Whether training gave it values of its own, to its end or until it was stopped."""
    return outcome_of(trial) in ("finished", "pruned", "diverged")


def is_counted(trial: FrozenTrial) -> bool:
    """Whether it takes one of num_trials."""
    return trial.state is not TrialState.WAITING and not trial.user_attrs.get(FREE) and outcome_of(trial) != "added"


def free_in_a_row(trials: Sequence[FrozenTrial]) -> int:
    """How many draws came to nothing since the last trial that was handed out."""
    told = [trial for trial in trials if trial.state.is_finished() or trial.user_attrs.get(HANDED_OUT)]
    return sum(1 for _ in takewhile(lambda trial: trial.user_attrs.get(FREE), reversed(told)))


def chosen_of(trial: FrozenTrial, space: Space) -> dict[str, object]:
    """{dimension: value} of a trial, as they were drawn."""
    return {
        dimension.name: read(dimension, trial.params[dimension.name])
        for dimension in space.dimensions
        if dimension.name in trial.params
    }


def lineage_of(trial: FrozenTrial) -> tuple[Takeover, ...]:
    """What a trial of a population took over, in order."""
    return tuple(Takeover(**told) for told in trial.user_attrs.get(LINEAGE, ()))


def last_chosen(trial: FrozenTrial, space: Space) -> dict[str, object]:
    """{dimension: value} of a trial, as it has them now."""
    lineage = lineage_of(trial)
    return space.values_of(lineage[-1].assignment) if lineage else chosen_of(trial, space)


def record_of(trial: FrozenTrial, space: Space) -> TrialRecord:
    """The record of a trial; one that waits has neither chosen values nor an assignment yet."""
    attributes, chosen = trial.user_attrs, last_chosen(trial, space)
    duration = trial.duration
    return TrialRecord(
        number=trial.number,
        outcome=outcome_of(trial),
        values=tuple(trial.values or ()) if trial.state is TrialState.COMPLETE else (),
        chosen=chosen,
        assignment=space.assignment(chosen) if chosen else {},
        intermediate=dict(trial.intermediate_values),
        why=attributes.get(WHY, ""),
        traceback=attributes.get(TRACEBACK, ""),
        source=attributes.get(SOURCE),
        seconds=None if duration is None else duration.total_seconds(),
        is_free=bool(attributes.get(FREE)),
        began=trial.datetime_start,
        ended=trial.datetime_complete,
        facts=attributes.get(FACTS, {}),
        lineage=lineage_of(trial),
    )


def front(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The trials that none other beats in all metrics, the earliest first; with one metric only the first best."""
    costs = {trial.number: _costs(trial, directions) for trial in trials}
    best = [t for t in trials if not any(_dominates(other, costs[t.number]) for other in costs.values())]
    best.sort(key=lambda trial: trial.number)
    return best[:1] if len(directions) == 1 else best


def _costs(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> tuple[float, ...]:
    signs = [1 if direction is StudyDirection.MINIMIZE else -1 for direction in directions]
    return tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=True))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def is_finite(values: Sequence[float]) -> bool:
    """Whether every value is a number that trials can be compared by."""
    return all(map(math.isfinite, values))
