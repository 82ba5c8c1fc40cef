"""Which parameters the metric hangs on most, by Optuna's fANOVA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from reforge.search.report.drawing import BLUE, SKY, Picture, picture, plain
from reforge.search.report.findings import Findings
from reforge.search.report.section import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Parameter importances"
LEAST_TRIALS = 8  # fANOVA of fewer tells chance from effect no longer
_SEED = 0
_NUM_TREES, _MAX_DEPTH = 32, 6  # a sixth of the time of Optuna's 64 and 64, the same shares within 0.01
_MOST_OTHERS = 6  # parameters that a conditional one is held against


@dataclass(frozen=True)
class Importance:
    """The share of the metric's variance that a parameter accounts for, among the trials that have it."""

    name: str
    share: float
    num_trials: int
    is_everywhere: bool


def measure(found: Findings, metric: int) -> list[Importance]:
    """Of each parameter that enough trials have, the most important first; [] where nothing can be told.

    A conditional parameter is held against the most important others, among the trials that have it.
    """
    everywhere = [parameter.name for parameter in found.parameters if parameter.is_everywhere]
    measured = _importances(found.complete, everywhere, metric)
    others = [each.name for each in sorted(measured, key=lambda each: -each.share)[:_MOST_OTHERS]]
    for names in _conditional_groups(found):
        having = [trial for trial in found.complete if all(name in trial.params for name in names)]
        shares = {each.name: each for each in _importances(having, [*others, *names], metric)}
        measured += [
            Importance(name, shares[name].share, len(having), is_everywhere=False) for name in names if name in shares
        ]
    return sorted(measured, key=lambda each: -each.share)


def importances(found: Findings, measured: Mapping[int, Sequence[Importance]]) -> Section:
    """A picture a metric. measured: of each metric what `measure` told."""
    pictures = [_picture(found.metrics[index].name, index, shares) for index, shares in measured.items() if shares]
    if not pictures:
        return Section(TITLE, f"Nothing to show: {why_none(found)}.")
    note = (
        f"Share of the metric's variance that a parameter accounts for (fANOVA, over {len(found.complete)} trials "
        "trained to their end). Of a conditional parameter: among the trials that have it, light bars."
    )
    return Section(TITLE, note, pictures)


def why_none(found: Findings) -> str:
    """Why there are no importances."""
    if len(found.complete) < LEAST_TRIALS:
        return f"importances need at least {LEAST_TRIALS} finished trials, there are {len(found.complete)}"
    return "all trials have the same value, or the same parameters"


def _importances(trials: Sequence[FrozenTrial], names: Sequence[str], metric: int) -> list[Importance]:
    values = {trial.values[metric] for trial in trials}
    moved = [name for name in names if len({trial.params[name] for trial in trials}) > 1]
    if len(trials) < LEAST_TRIALS or len(values) < 2 or not moved:
        return []
    study = optuna.create_study(directions=["minimize"] * len(trials[0].values))
    study.add_trials(list(trials))
    shares = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=_NUM_TREES, max_depth=_MAX_DEPTH, seed=_SEED),
        params=moved,
        target=lambda trial: trial.values[metric],
    )
    return [Importance(name, float(share), len(trials), is_everywhere=True) for name, share in shares.items()]


def _conditional_groups(found: Findings) -> list[list[str]]:
    """The conditional parameters, those together that the same trials have."""
    groups: dict[frozenset[int], list[str]] = {}
    for parameter in found.parameters:
        if not parameter.is_everywhere:
            having = frozenset(trial.number for trial in found.complete if parameter.name in trial.params)
            groups.setdefault(having, []).append(parameter.name)
    return list(groups.values())


def _picture(metric: str, index: int, measured: Sequence[Importance]) -> Picture:
    def draw(axes: "Axes") -> None:
        for place, each in enumerate(measured):
            axes.barh(place, each.share, 0.7, color=BLUE if each.is_everywhere else SKY)
            among = "" if each.is_everywhere else f" (in {each.num_trials} trials)"
            axes.text(each.share + 0.01, place, f"{each.share:.0%}{among}", va="center", fontsize=8)
        axes.set_yticks(range(len(measured)), [plain(each.name, 44) for each in measured])
        axes.set(xlim=(0, 1), ylim=(len(measured) - 0.4, -0.6), xlabel=f"importance for {plain(metric, 40)}")
        axes.grid(visible=False, axis="y")

    return picture(f"Importances for {metric} ({index + 1})", 4.6, 0.35 + 0.26 * len(measured), draw)
