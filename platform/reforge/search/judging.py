"""Whether a draw is worth training: it may be impossible, or known from an earlier trial."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from reforge.search.parameters import key_of
from reforge.search.records import HANDED_OUT, WHY, outcome_of

OnDuplicate = Literal["reuse", "skip", "allow"]


@dataclass(frozen=True)
class Verdict:
    """What to do with a draw.

    action: run it; reuse the values of `earlier`; skip it, as `earlier` still runs or raised; it is infeasible
    why: in words, of what is infeasible
    """

    action: Literal["run", "reuse", "skip", "infeasible"]
    why: str = ""
    earlier: FrozenTrial | None = None


def judge(trial: FrozenTrial, why: Sequence[str], others: Iterable[FrozenTrial], on_duplicate: OnDuplicate) -> Verdict:
    """The verdict on a draw.

    why: what is violated by it
    others: the trials that count as tried, `tried`
    """
    if why:
        return Verdict("infeasible", "; ".join(why))
    key = key_of(trial.params)
    equal = {
        outcome_of(other): other for other in others if other.number != trial.number and key_of(other.params) == key
    }
    if "infeasible" in equal:
        return Verdict("infeasible", equal["infeasible"].user_attrs.get(WHY, ""), equal["infeasible"])
    if on_duplicate == "allow" or not equal:
        return Verdict("run")
    for outcome in ("finished", "pruned", "diverged"):
        if outcome in equal:
            return Verdict("reuse", earlier=equal[outcome])
    return Verdict("skip", earlier=next(iter(equal.values())))


def tried(trials: Iterable[FrozenTrial], failed_here: Collection[int]) -> list[FrozenTrial]:
    """Trials that were handed out, without those that raised before this start: what made them raise may be mended."""
    return [
        trial
        for trial in trials
        if trial.user_attrs.get(HANDED_OUT) and (trial.state is not TrialState.FAIL or trial.number in failed_here)
    ]
