"""The figures at the head of the report: what was found, and what it took."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reforge.search.records import TrialRecord
from reforge.search.report.findings import Findings
from reforge.search.report.wording import worded
from reforge.tracking.progress import duration

_WASTED = ("pruned", "diverged", "failed", "infeasible")
_UNITS = {"cpus": "CPU", "gpus": "GPU"}
MOST_BEST = 20


@dataclass(frozen=True)
class Best:
    """One of the best trials: its values by metric and its parameters, in words."""

    number: int
    values: Sequence[str]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Summary:
    """best: one trial, or the first of a Pareto front of `num_best`; facts: {what: how much}, in words."""

    best: Sequence[Best]
    num_best: int
    facts: Mapping[str, str]

    @property
    def paths(self) -> list[str]:
        """Every key path that one of the best has."""
        return list(dict.fromkeys(path for best in self.best for path in best.parameters))


def summarise(found: Findings, resources: Mapping[str, float], seconds_used: float, folder: Path) -> Summary:
    """The summary of a study.

    resources: what one trial holds, {"cpus": 2, "gpus": 0.5}
    seconds_used: by all starts of the search together
    folder: where all that the search writes lies
    """
    facts = {
        "trials": _counts(found.handed_out),
        "draws that cost nothing": _counts([trial for trial in found.records if _cost_nothing(trial)]),
        "of earlier studies": _counts([trial for trial in found.records if trial.outcome == "added"]),
        "time of the search": duration(seconds_used),
        **_compute(found.handed_out, resources),
        "disk": _disk(folder),
    }
    best = [_best(trial) for trial in found.best[:MOST_BEST]]
    return Summary(best, len(found.best), {what: text for what, text in facts.items() if text})


def _best(trial: TrialRecord) -> Best:
    parameters = {path: worded(value) for path, value in trial.assignment.items()}
    return Best(trial.number, [f"{value:.6g}" for value in trial.values], parameters)


def _cost_nothing(trial: TrialRecord) -> bool:
    return trial.is_free or trial.outcome in ("reused", "skipped")


def _counts(trials: Sequence[TrialRecord]) -> str:
    counts = Counter(trial.outcome for trial in trials)
    each = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
    return f"{len(trials):,}: {each}" if trials else ""


def _compute(trials: Sequence[TrialRecord], resources: Mapping[str, float]) -> dict[str, str]:
    """Trial seconds, times what each holds, and the shares of the trials that did not finish."""
    spent: defaultdict[str, float] = defaultdict(float)
    for trial in trials:
        spent[trial.outcome] += trial.seconds or 0.0
    total = sum(spent.values())
    if not total:
        return {}
    held = ", ".join(
        f"{total * amount / 3600:.3g} {_UNITS.get(name, name)} hours" for name, amount in resources.items()
    )
    shares = [f"{spent[outcome] / total:.0%} on {outcome} trials" for outcome in _WASTED if spent[outcome]]
    return {
        "time of all trials": duration(total),
        "compute": held,
        "not on trials that finished": ", ".join(shares) or "nothing",
    }


def _disk(folder: Path) -> str:
    """Of the files that are there; one may vanish while a search runs that goes on."""
    num_bytes = 0.0
    for path in folder.rglob("*"):
        try:
            num_bytes += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
        except FileNotFoundError:
            continue
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:,.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.4g} GiB"
