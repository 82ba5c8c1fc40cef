"""A study asks, is told, and forgets nothing: draws, duplicates, what cannot be trained, ends and front."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from reforge.search.dimension import Choice, Dimension, Range, freeze
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.samplers import GPOptions, GridOptions, NSGAIIOptions, QMCOptions, RandomOptions, TPEOptions
from reforge.search.space import Space
from reforge.search.study import Study, Suggestion
from reforge.spec import SpecError, UserError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

ACCURACY = MetricOptions(name="valid/accuracy")
WIDTH = Dimension("model.d_model", Choice((64, 96, 128)), paths=("model.d_model",))
HEADS = Dimension("model.num_heads", Choice((4, 5)), paths=("model.num_heads",))
FINITE = Space((WIDTH, HEADS))
LR = Dimension("optimizer.lr", Range(1e-5, 1e-2, log=True), paths=("optimizer.lr",))
KIND = Dimension("head.kind", Choice(("cnn", "linear")), paths=("head.kind",))
CNN = (("head.kind", frozenset({"cnn"})),)
SIZES = Dimension("head.kernel_sizes", Choice(([3, 4, 5], [4, 5, 6, 7])), CNN, ("head.kernel_sizes",))
DROPOUT = Dimension("head.dropout", Range(0.1, 0.6, step=0.1), CNN, ("head.dropout",))
CONDITIONAL = Space((LR, KIND, SIZES, DROPOUT))


def accuracy(assignment: Mapping[str, Any]) -> float:
    """Best at lr 1e-3 with the CNN head."""
    return 0.9 - 0.1 * abs(math.log10(assignment["optimizer.lr"]) + 3) - 0.1 * (assignment["head.kind"] != "cnn")


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Study]:
    """A function that opens one and the same study, again and again."""

    def open_study(space: Space, metrics: Sequence[MetricOptions] = (ACCURACY,), **options: Any) -> Study:
        violated = options.pop("violated", lambda assignment: ())
        name, storage = options.pop("name", "s"), options.pop("storage", tmp_path / "study.journal")
        context = options.pop("context", {})
        return Study(name, space, SearchOptions(**options), metrics, str(storage), violated, context)

    return open_study


def run(study: Study, score: Callable[[Mapping[str, Any]], float], limit: int = 1000) -> list[Suggestion]:
    """Asks and finishes until the study ends."""
    handed_out: list[Suggestion] = []
    while len(handed_out) < limit and (suggestion := study.ask()) is not None:
        handed_out.append(suggestion)
        if suggestion.action == "run":
            study.finish(suggestion.number, score(suggestion.assignment))
    return handed_out


def test_conditional_parameters_are_drawn_where_they_are_active(start: Callable[..., Study]) -> None:
    study = start(CONDITIONAL, num_trials=12, sampler=RandomOptions(seed=1))
    for suggestion in run(study, accuracy):
        assignment = suggestion.assignment
        assert 1e-5 <= assignment["optimizer.lr"] <= 1e-2
        if assignment["head.kind"] == "cnn":
            assert assignment["head.kernel_sizes"] in [[3, 4, 5], [4, 5, 6, 7]]
            assert assignment["head.dropout"] in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
        else:
            assert assignment.keys() == {"optimizer.lr", "head.kind"}
    assert study.ended == "all 12 trials are handed out"
    (best,) = study.best
    assert best.values == (max(record.values[0] for record in study.trials),)
    assert accuracy(best.assignment) == best.values[0]


@pytest.mark.parametrize(
    "options",
    [
        TPEOptions(seed=5, n_startup_trials=4),
        pytest.param(QMCOptions(seed=5), marks=pytest.mark.slow),  # imports scipy.stats
        pytest.param(NSGAIIOptions(seed=5, population_size=3), marks=pytest.mark.slow),
        pytest.param(GPOptions(seed=5, n_startup_trials=3), marks=pytest.mark.slow),
    ],
)
def test_one_seed_gives_one_sequence_however_often_the_search_is_started(
    options: Any, start: Callable[..., Study], tmp_path: Path
) -> None:
    at_once = run(start(CONDITIONAL, num_trials=7, sampler=options), accuracy)
    in_parts: list[Suggestion] = []
    for _ in range(7):
        again = start(CONDITIONAL, num_trials=7, sampler=options, storage=tmp_path / "other.journal")
        in_parts += run(again, accuracy, limit=1)
    assert in_parts == at_once
    other = start(
        CONDITIONAL, num_trials=7, sampler=options.model_copy(update={"seed": 6}), storage=tmp_path / "6.journal"
    )
    assert run(other, accuracy) != at_once


@pytest.mark.slow  # 80 trials
def test_tpe_comes_nearer_to_the_best_than_chance(start: Callable[..., Study], tmp_path: Path) -> None:
    drawn = {}
    for options in (TPEOptions(seed=0), RandomOptions(seed=0)):
        study = start(Space((LR, KIND)), num_trials=40, sampler=options, storage=tmp_path / f"{options.kind}.journal")
        drawn[options.kind] = [accuracy(each.assignment) for each in run(study, accuracy)[20:]]
    assert sum(drawn["tpe"]) / 20 > sum(drawn["random"]) / 20 + 0.03


def test_what_cannot_be_trained_costs_nothing_and_is_told_as_infeasible(start: Callable[..., Study]) -> None:
    study = start(
        FINITE,
        num_trials=6,
        sampler=RandomOptions(),
        on_duplicate="allow",
        violated=lambda a: ["d_model % num_heads"] if a["model.d_model"] % a["model.num_heads"] else [],
    )
    handed_out = run(study, lambda assignment: 0.5)
    assert [each.action for each in handed_out] == ["run"] * 6
    assert all(each.assignment["model.num_heads"] == 4 for each in handed_out)
    refused = [trial for trial in study.trials if trial.outcome == "infeasible"]
    assert refused
    assert all(trial.is_free and trial.why == "d_model % num_heads" for trial in refused)
    stored = optuna.load_study(study_name="s", storage=study_storage(study)).trials
    assert {trial.state for trial in stored if trial.constraints} == {TrialState.PRUNED}
    assert sum(trial.constraints == {"feasible": 1.0} for trial in stored) == len(refused)


def study_storage(study: Study) -> optuna.storages.BaseStorage:
    """The storage as any other program opens it."""
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(study._where))


def test_a_trial_is_spent_where_nothing_can_be_trained(start: Callable[..., Study]) -> None:
    space = Space((LR,))
    study = start(space, num_trials=2, max_resamples=3, sampler=RandomOptions(), violated=lambda a: ["too large"])
    handed_out = run(study, accuracy)
    assert [(each.action, each.why) for each in handed_out] == [("infeasible", "too large")] * 2
    assert len(study.trials) == 8
    assert study.best == ()


def test_a_trial_that_ran_out_of_memory_is_not_drawn_again(start: Callable[..., Study]) -> None:
    study = start(FINITE, num_trials=20, sampler=RandomOptions())
    first = study.ask()
    assert first is not None
    study.infeasible(first.number, "out of memory")
    rest = run(study, lambda assignment: 0.5)
    assert first.assignment not in [each.assignment for each in rest]
    assert len(rest) == 5
    assert study.trials[first.number].outcome == "infeasible"
    assert study.trials[first.number].why == "out of memory"


@pytest.mark.parametrize("on_duplicate", ["reuse", "skip"])
@pytest.mark.parametrize("sampler", [TPEOptions(n_startup_trials=3), RandomOptions(), GridOptions()])
def test_a_finite_space_is_tried_once_each_and_then_ends(
    on_duplicate: str, sampler: Any, start: Callable[..., Study]
) -> None:
    study = start(FINITE, num_trials=50, on_duplicate=on_duplicate, sampler=sampler, max_resamples=4)
    handed_out = run(study, lambda assignment: assignment["model.d_model"] / 128)
    assert [each.action for each in handed_out] == ["run"] * 6
    assert len({tuple(each.assignment.values()) for each in handed_out}) == 6
    assert study.ended == "every combination of the space that can be trained has been tried"
    for trial in study.trials:
        if trial.outcome == "reused":
            assert trial.source is not None
            assert trial.values == study.trials[trial.source].values
    outcomes = {trial.outcome for trial in study.trials}
    assert outcomes <= ({"finished", "reused"} if on_duplicate == "reuse" else {"finished", "skipped"})


def test_a_grid_has_every_feasible_cell_of_a_conditional_space(start: Callable[..., Study]) -> None:
    def violated(assignment: Mapping[str, Any]) -> list[str]:
        return ["no"] if assignment.get("head.dropout") == 0.3 else []

    study = start(Space((KIND, SIZES, DROPOUT)), num_trials=99, sampler=GridOptions(seed=2), violated=violated)
    cells = [freeze(list(each.assignment.values())) for each in run(study, lambda assignment: 0.5)]
    wanted = {("cnn", sizes, drop / 10) for sizes in ((3, 4, 5), (4, 5, 6, 7)) for drop in (1, 2, 4, 5, 6)}
    assert len(cells) == 11
    assert set(cells) == wanted | {("linear",)}
    assert len(study.trials) == 11


def test_a_duplicate_of_a_trial_that_runs_is_drawn_again(start: Callable[..., Study]) -> None:
    study = start(FINITE, num_trials=20, max_concurrent=6, sampler=RandomOptions())
    running = [study.ask() for _ in range(7)]
    assert running[-1] is None
    assert len({tuple(each.assignment.values()) for each in running if each is not None}) == 6


def test_duplicates_are_trained_where_they_are_allowed(start: Callable[..., Study]) -> None:
    study = start(FINITE, num_trials=8, on_duplicate="allow", sampler=RandomOptions())
    assert len(run(study, lambda assignment: 0.5)) == 8


def test_a_pruned_trial_has_its_intermediate_values(start: Callable[..., Study]) -> None:
    study = start(CONDITIONAL, num_trials=3, sampler=RandomOptions())
    first, second, third = study.ask(), study.ask(), study.ask()
    assert first is not None
    assert second is not None
    assert third is not None
    for step in (1, 2):
        study.report(first.number, step, step / 10)
    study.prune(first.number, "asha")
    study.finish(second.number, math.nan)
    study.finish(third.number, 0.4)
    pruned, diverged, finished = study.trials
    assert (pruned.outcome, pruned.intermediate, pruned.why, pruned.values) == ("pruned", {1: 0.1, 2: 0.2}, "asha", ())
    assert (diverged.outcome, diverged.why) == ("diverged", "the metric is nan")
    assert study.best == (finished,)
    stored = optuna.load_study(study_name="s", storage=study_storage(study)).trials
    assert [trial.state.name for trial in stored] == ["PRUNED", "PRUNED", "COMPLETE"]


def test_several_metrics_have_a_front(start: Callable[..., Study]) -> None:
    metrics = (ACCURACY, MetricOptions(name="speed"), MetricOptions(name="memory", mode="min"))
    study = start(FINITE, metrics, num_trials=10, sampler=TPEOptions(n_startup_trials=2))
    while (suggestion := study.ask()) is not None:
        width, heads = suggestion.assignment["model.d_model"], suggestion.assignment["model.num_heads"]
        study.report(suggestion.number, 1, [0.1, 0.2, 0.3])
        study.finish(suggestion.number, [width, -width * heads, heads])
    front = {tuple(record.assignment.values()) for record in study.best}
    assert front == {(64, 4), (96, 4), (128, 4)}


def test_failures_are_kept_and_end_the_search_when_there_are_too_many(start: Callable[..., Study]) -> None:
    study = start(FINITE, num_trials=6, max_failed_trials=1, sampler=RandomOptions())
    for _ in range(2):
        suggestion = study.ask()
        assert suggestion is not None
        study.fail(suggestion.number, "ValueError: bad", "Traceback ...\nValueError: bad")
    with pytest.raises(UserError, match=r"2 trials failed, more than max_failed_trials \(1\); the last, trial 1: Val"):
        study.ask()
    assert study.trials[0].outcome == "failed"
    assert study.trials[0].traceback.endswith("ValueError: bad")
    mended = start(FINITE, num_trials=6, max_failed_trials=1, sampler=RandomOptions())
    assert len(run(mended, lambda assignment: 0.5)) == 4


def test_the_time_of_all_starts_together_is_what_the_budget_limits(start: Callable[..., Study]) -> None:
    first = start(CONDITIONAL, time_budget="0.3s", num_trials=500)
    assert 0 < len(run(first, accuracy)) < 500
    assert first.ended == "the time budget of 0.3s is used up"
    again = start(CONDITIONAL, time_budget="0.3s", num_trials=500)
    assert again.ask() is None
    assert again.seconds_used > 0.2


def test_points_come_first_and_partial_ones_are_completed(start: Callable[..., Study]) -> None:
    points = (
        {"optimizer.lr": 1e-3, "head.kind": "linear"},
        {"head.kernel_sizes": [4, 5, 6, 7]},
    )
    study = start(CONDITIONAL, num_trials=4, points_to_evaluate=points, sampler=TPEOptions())
    first, second, *rest = run(study, accuracy)
    assert first.assignment == points[0]
    assert second.assignment["head.kind"] == "cnn"
    assert second.assignment["head.kernel_sizes"] == [4, 5, 6, 7]
    assert second.assignment.keys() == {"optimizer.lr", "head.kind", "head.kernel_sizes", "head.dropout"}
    assert len(rest) == 2


def test_wrong_points_are_told_together(start: Callable[..., Study]) -> None:
    points = (
        {"optimizer.lrr": 1e-3},
        {"optimizer.lr": 1.0},
        {"head.kind": "linear", "head.dropout": 0.1},
        {"head.dropout": 0.15},
        {"optimizer.lr": 1e-3, "head.kind": "linear"},
    )
    with pytest.raises(SpecError) as error:
        start(CONDITIONAL, points_to_evaluate=points, violated=lambda a: ["too large for the device"])
    text = str(error.value)
    assert "search.points_to_evaluate[0].'optimizer.lrr': is not searched; did you mean optimizer.lr?" in text
    assert "[1].'optimizer.lr': must be a number from 1e-05 to 0.01; got 1.0" in text
    assert "[2].'head.dropout': is searched only where head.kind is cnn; got 0.1" in text
    assert "[3].'head.dropout': must be a number from 0.1 to 0.6 in steps of 0.1; got 0.15" in text
    assert "[4]: cannot be trained: too large for the device" in text


def test_part_of_a_joint_choice_is_completed(start: Callable[..., Study]) -> None:
    paths = ("model.d_model", "model.num_heads")
    joint = Space((Dimension("*".join(paths), Choice(((64, 4), (96, 4), (100, 5))), paths=paths),))
    study = start(joint, num_trials=1, points_to_evaluate=({"model.num_heads": 5},))
    (suggestion,) = run(study, lambda assignment: 0.5)
    assert suggestion.assignment == {"model.d_model": 100, "model.num_heads": 5}
    wanted = r"must be one of 64, 96, 100, and fit model.num_heads; got 100"
    with pytest.raises(SpecError, match=wanted):
        start(joint, name="t", points_to_evaluate=({"model.d_model": 100, "model.num_heads": 4},))


def test_a_grid_needs_a_space_that_can_be_listed(start: Callable[..., Study]) -> None:
    with pytest.raises(SpecError, match=r"grid needs a space that can be listed: optimizer\.lr has no step"):
        start(CONDITIONAL, sampler=GridOptions())


def test_a_name_that_belongs_to_another_search_is_refused(start: Callable[..., Study]) -> None:
    start(CONDITIONAL, context={"data": "abc"})
    other = Space((LR, KIND, Dimension("head.dropout", Range(0.1, 0.5, step=0.1), CNN, ("head.dropout",))))
    with pytest.raises(UserError) as error:
        start(other, (MetricOptions(name="valid/accuracy", scope="last"),), context={"data": "abd"})
    text = str(error.value)
    assert text.startswith("study 's' belongs to another search:\n")
    assert "metric valid/accuracy: there max, best; here max, last" in text
    assert "data: there abc; here abd" in text
    assert "space head.kernel_sizes: there [[3, 4, 5], [4, 5, 6, 7]] when head.kind is cnn; here nothing" in text
    assert "space head.dropout: there {low: 0.1, high: 0.6, step: 0.1} when head.kind is cnn; here {low: 0.1" in text
    assert "optimizer.lr" not in text
    start(CONDITIONAL, num_trials=99, sampler=RandomOptions(), context={"data": "abc"})  # what may change


def test_a_space_read_from_yaml_is_searched(compiled: Any, start: Callable[..., Study]) -> None:
    space = compiled(
        "  model.d_model: [64, 96, 100]\n"
        "  model.num_heads: [4, 5]\n"
        "  optimizer.lr: {low: 1e-5, high: 1e-3, log: true}\n"
        "  head:\n"
        "    kind: [cnn, linear]\n"
        "    when: {cnn: {kernel_sizes: [[3, 4, 5], [2, 3]], dropout: {low: 0.1, high: 0.6, step: 0.1}}}\n",
        "model.d_model % model.num_heads == 0",
        "optimizer.lr * model.d_model < 0.05",
    ).space
    point = {"model.num_heads": 5, "head.kernel_sizes": [2, 3], "optimizer.lr": 2e-4}
    study = start(space, num_trials=15, violated=space.violated, points_to_evaluate=(point,))
    handed_out = run(study, lambda assignment: assignment["optimizer.lr"])
    assert point.items() <= handed_out[0].assignment.items()
    assert handed_out[0].assignment["model.d_model"] == 100
    for suggestion in handed_out:
        assert space.violated(suggestion.assignment) == []
        assert ("head.dropout" in suggestion.assignment) == (suggestion.assignment["head.kind"] == "cnn")
    assert len(handed_out) == 15
    assert study.best[0].values[0] < 0.05 / 64


@pytest.mark.slow  # a database is made
def test_a_database_holds_a_study_as_well(start: Callable[..., Study], tmp_path: Path) -> None:
    where, sampler = f"sqlite:///{tmp_path}/study.db", TPEOptions(n_startup_trials=2)
    in_journal = run(start(CONDITIONAL, num_trials=5, sampler=sampler), accuracy)
    first = start(CONDITIONAL, num_trials=5, sampler=sampler, storage=where)
    handed_out = run(first, accuracy, limit=2)
    unfinished = first.ask()
    assert unfinished is not None
    again = start(CONDITIONAL, num_trials=5, sampler=sampler, storage=where)
    rest = run(again, accuracy)
    assert rest[0] == replace(unfinished, resumed=True)
    assert [*handed_out, unfinished, *rest[1:]] == in_journal
    assert len(again.best) == 1


@pytest.mark.slow  # Gaussian processes are fitted
def test_a_sampler_that_learns_nothing_from_infeasible_draws_gets_on(start: Callable[..., Study]) -> None:
    sampler = GPOptions(n_startup_trials=3)
    study = start(
        Space((LR, KIND)),
        num_trials=6,
        sampler=sampler,
        violated=lambda a: ["no"] if a["optimizer.lr"] > 5e-4 else [],
    )
    assert [each.action for each in run(study, accuracy)] == ["run"] * 6
    assert len(study.trials) < 30
