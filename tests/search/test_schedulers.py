"""Schedulers over tables of learning curves: what they save, what they keep, and that no kill changes what they say."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.pruners import PercentilePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from reforge.search.dimension import Choice, Dimension
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.pruners import HalvingPruner
from reforge.search.rules import scheduler_problems
from reforge.search.samplers import GridOptions, RandomOptions, TPEOptions
from reforge.search.schedulers import (
    SCHEDULERS,
    AnyScheduler,
    AshaOptions,
    HyperbandOptions,
    MedianOptions,
    NoScheduler,
    SchedulerOptions,
)
from reforge.search.space import Space
from reforge.search.stopping import StopOptions
from reforge.search.study import Study
from reforge.spec import Part, SpecError, load_source, validate

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

ACCURACY = MetricOptions(name="valid/accuracy")


def curves(count: int, reports: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[trial, report]: rising, some a third faster than others, with a little noise."""
    random = np.random.default_rng(seed)
    final = np.linspace(0.5, 0.9, count)[:, None]
    pace = random.uniform(0.15, 0.2, (count, 1)) * reports
    return final - 0.4 * np.exp(-np.arange(1, reports + 1) / pace) + random.normal(0, 0.005, (count, reports))


@dataclass
class Replay:
    """A search over the rows of a table, one report of each running trial in turn.

    restart: a new process takes over after every report, and again before every end
    """

    path: Path
    table: np.ndarray[Any, np.dtype[np.float64]]
    scheduler: SchedulerOptions
    concurrent: int = 1
    restart: bool = False
    sampler: Any = GridOptions()  # noqa: RUF009  (frozen)
    said: list[tuple[int, int, str]] = field(default_factory=list)
    reached: dict[int, int] = field(default_factory=dict)
    row: dict[int, int] = field(default_factory=dict)

    def open(self) -> Study:
        rows = Dimension("row", Choice(tuple(range(len(self.table)))), paths=("row",))
        options = SearchOptions(sampler=self.sampler, num_trials=len(self.table), on_duplicate="allow")
        self.study = Study("s", Space((rows,)), options, [ACCURACY], str(self.path), scheduler=self.scheduler)
        return self.study

    def again(self, running: Sequence[int]) -> None:
        if self.restart:
            self.open()
            resumed = [self.study.ask() for _ in running]
            assert sorted(each.number for each in resumed if each is not None and each.resumed) == sorted(running)

    def run(self) -> Study:
        self.open()
        running: list[int] = []
        while True:
            while len(running) < self.concurrent and (suggestion := self.study.ask()) is not None:
                running.append(suggestion.number)
                self.row[suggestion.number] = suggestion.assignment["row"]
            if not running:
                return self.study
            for number in list(running):
                self.step(number, running)

    def step(self, number: int, running: list[int]) -> None:
        report = self.reached[number] = self.reached.get(number, 0) + 1
        value = float(self.table[self.row[number], report - 1])
        self.study.report(number, report, value)
        self.again(running)
        why = self.study.should_prune(number)
        self.said.append((number, report, why))
        self.again(running)
        assert self.study.should_prune(number) == why
        if why:
            self.study.prune(number, why)
        elif report == self.table.shape[1]:
            self.study.finish(number, value)
        else:
            return
        running.remove(number)

    @property
    def num_reports(self) -> int:
        return sum(self.reached.values())


@pytest.mark.parametrize("concurrent", [4, pytest.param(1, marks=pytest.mark.slow)])  # 27 trials each
def test_asha_spends_less_than_half_and_keeps_the_best(concurrent: int, tmp_path: Path) -> None:
    table = curves(27, 27)
    replay = Replay(tmp_path / "s.journal", table, AshaOptions(reduction_factor=3, max_reports=27), concurrent)
    study = replay.run()
    assert replay.num_reports < 0.5 * table.size
    assert study.best[0].assignment == {"row": 26}
    pruned = [trial for trial in study.trials if trial.outcome == "pruned"]
    assert {max(trial.intermediate) for trial in pruned} <= {1, 3, 9}
    assert len(pruned) > 13
    stored = study.optuna.get_trials(states=(TrialState.PRUNED,))
    assert [trial.value for trial in stored] == [trial.intermediate[max(trial.intermediate)] for trial in pruned]


def test_asha_says_what_a_trial_was_compared_with(tmp_path: Path) -> None:
    replay = Replay(tmp_path / "s.journal", np.array([[0.9]] * 5 + [[0.7]]), AshaOptions(), sampler=RandomOptions())
    study = replay.open()
    for value in (0.9, 0.8, 0.85, 0.95, 0.7, 0.6):
        suggestion = study.ask()
        assert suggestion is not None
        study.report(suggestion.number, 1, value)
    assert study.should_prune(0) == ""
    assert study.should_prune(5) == "asha: 0.6 at report 1 is not among the best 2 of 6"
    assert study.should_prune(1) == "asha: 0.8 at report 1 is not among the best 2 of 6"
    study.report(0, 2, 0.1)
    assert study.should_prune(0) == ""  # not a report at which asha judges


def test_reports_that_come_together_are_judged_one_by_one(tmp_path: Path) -> None:
    """A trial may be ahead of what its driver told before it died."""
    study = Replay(tmp_path / "s.journal", curves(4, 9), AshaOptions(), sampler=RandomOptions()).open()
    for number, values in enumerate([(0.9, 0.9, 0.9, 0.9), (0.1, 0.2, 0.3, 0.4)]):
        assert study.ask() is not None
        for report, value in enumerate(values, start=1):
            study.report(number, report, value)
    assert study.should_prune(0) == ""
    assert study.should_prune(1) == "asha: 0.1 at report 1 is not the best of 2"
    study.finish(1, 0.4, "patience: no better report in 2")
    assert study.trials[1].why == "patience: no better report in 2"


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_one_bracket_is_optunas_successive_halving(factor: int, direction: str) -> None:
    table = curves(30, 20, seed=factor)[np.random.default_rng(1).permutation(30)]
    stopped = []
    for pruner in (SuccessiveHalvingPruner(min_resource=2, reduction_factor=factor), HalvingPruner(2, factor)):
        study = optuna.create_study(direction=direction, pruner=pruner)
        trials = [study.ask() for _ in table]
        last = dict.fromkeys(range(30), 0)
        for report in range(1, 21):
            for trial in [each for each in trials if last[each.number] == report - 1]:
                trial.report(float(table[trial.number, report - 1]), report)
                last[trial.number] = report if not trial.should_prune() else -report
        stopped.append(last)
    assert stopped[0] == stopped[1]
    assert len(set(stopped[0].values())) > 2


def test_hyperband_has_brackets(tmp_path: Path) -> None:
    options = HyperbandOptions(max_reports=27)
    pruner = options.build()
    assert isinstance(pruner, HalvingPruner)
    optunas = optuna.pruners.HyperbandPruner(1, 27, 3)
    optunas.prune(optuna.create_study(), optuna.trial.create_trial(state=TrialState.RUNNING))
    assert options.num_brackets == optunas._n_brackets == 4
    assert HyperbandOptions(max_reports=243).num_brackets == 6  # whose logarithm is a little below 5
    shares = np.bincount([pruner.bracket_of(number) for number in range(490)]) / 490
    assert shares == pytest.approx(np.array(optunas._trial_allocation_budgets) / 49, abs=0.01)
    assert set(map(pruner.bracket_of, range(8))) >= {0, 1, 2}

    table = curves(18, 9)
    replay = Replay(tmp_path / "s.journal", table, HyperbandOptions(max_reports=9), concurrent=3)
    study = replay.run()
    pruner = HalvingPruner(1, 3, 9, num_brackets=3)
    for bracket in range(3):
        judged = {report for number, report, why in replay.said if why and pruner.bracket_of(number) == bracket}
        assert judged <= {3**rung for rung in range(bracket, 2)}
    assert any(" in bracket 0" in why for _, _, why in replay.said)
    assert any(" in bracket 1" in why for _, _, why in replay.said)
    assert replay.num_reports < 0.8 * table.size
    assert study.best[0].values[0] > 0.85


def test_median_prunes_the_bad_half(tmp_path: Path) -> None:
    table = curves(20, 3)
    order = np.random.default_rng(3).permutation(20)
    replay = Replay(tmp_path / "s.journal", table[order], MedianOptions(grace_period=2, min_trials=4))
    study = replay.run()
    rows = {trial.number: int(order[replay.row[trial.number]]) for trial in study.trials}
    pruned = {rows[trial.number] for trial in study.trials if trial.outcome == "pruned"}
    to_compare_with = [rows[number] for number in range(4)]
    assert pruned >= set(range(10)) - set(to_compare_with)
    assert 19 not in pruned
    assert pruned.isdisjoint(to_compare_with)
    assert min(report for _, report, why in replay.said if why) == 2
    why = next(why for _, _, why in replay.said if why)
    assert why.startswith("median: 0.")
    assert "by report 2 is not among the best 50 % of " in why


def test_a_percentile_is_optunas(tmp_path: Path) -> None:
    pruner = MedianOptions(percentile=25, min_trials=3, grace_period=4, interval=2).build()
    assert isinstance(pruner, PercentilePruner)
    lenient = Replay(
        tmp_path / "75", curves(12, 3), MedianOptions(percentile=75, min_trials=3), sampler=RandomOptions()
    )
    strict = Replay(tmp_path / "25", curves(12, 3), MedianOptions(percentile=25, min_trials=3), sampler=RandomOptions())
    lenient.run()
    strict.run()
    assert strict.num_reports < lenient.num_reports < 36


@pytest.mark.parametrize(
    "scheduler",
    [
        AshaOptions(reduction_factor=2, max_reports=4),
        # opens the study some sixty times
        pytest.param(HyperbandOptions(max_reports=4, reduction_factor=2), marks=pytest.mark.slow),
        pytest.param(MedianOptions(min_trials=2), marks=pytest.mark.slow),
    ],
)
def test_whoever_is_killed_when_the_search_is_the_same(scheduler: SchedulerOptions, tmp_path: Path) -> None:
    sampler = TPEOptions(seed=3, n_startup_trials=3)
    table = curves(9, 4)
    whole = Replay(tmp_path / "whole.journal", table, scheduler, 3, sampler=sampler)
    killed = Replay(tmp_path / "killed.journal", table, scheduler, 3, restart=True, sampler=sampler)
    kept, again = whole.run().trials, killed.run().trials
    assert killed.said == whole.said
    assert killed.row == whole.row
    assert [(each.outcome, each.values, each.why) for each in again] == [
        (each.outcome, each.values, each.why) for each in kept
    ]
    assert {each.outcome for each in kept} == {"finished", "pruned"}


def drive(path: Path) -> None:
    """A driver of one trial at a time, which goes on after the last report that the storage has."""
    replay = Replay(path, curves(12, 9), AshaOptions(max_reports=9))
    study = replay.open()
    while (suggestion := study.ask()) is not None:
        number = suggestion.number
        replay.row[number] = suggestion.assignment["row"]
        replay.reached[number] = min(max(study.trials[number].intermediate, default=0), 8)  # the last is told again
        running = [number]
        if why := study.should_prune(number):
            study.prune(number, why)
            continue
        while running:
            time.sleep(0.01)
            replay.step(number, running)


@pytest.mark.slow  # starts a process some ten times
def test_a_search_that_is_killed_prunes_the_same_trials(tmp_path: Path) -> None:
    drive(tmp_path / "whole.journal")
    path = tmp_path / "killed.journal"
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; from pathlib import Path\n"
    code += f"import test_schedulers; test_schedulers.drive(Path({str(path)!r}))"
    num_kills = 0
    while True:
        known = path.stat().st_size if path.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", code])
        while process.poll() is None and (not path.exists() or path.stat().st_size < known + 4500):
            time.sleep(0.001)
        if process.poll() is not None:
            break
        time.sleep(0.003 * (num_kills % 7))
        process.kill()
        process.wait()
        num_kills += 1
    assert process.returncode == 0
    assert num_kills >= 4
    whole, killed = (
        Replay(each, curves(12, 9), AshaOptions(max_reports=9)).open().trials
        for each in (tmp_path / "whole.journal", path)
    )
    assert [(each.outcome, each.intermediate, each.values, each.why) for each in killed] == [
        (each.outcome, each.intermediate, each.values, each.why) for each in whole
    ]
    assert {each.outcome for each in whole} == {"finished", "pruned"}


def test_a_report_is_judged_by_what_was_known_when_it_came(tmp_path: Path) -> None:
    """Killed between a report and its judgement: what others report meanwhile changes nothing."""
    replay = Replay(tmp_path / "s.journal", curves(9, 3), AshaOptions(reduction_factor=2))
    study = replay.open()
    for value in (0.5, 0.6):
        suggestion = study.ask()
        assert suggestion is not None
        study.report(suggestion.number, 1, value)
    again = replay.open()  # as if study.should_prune had not been reached
    assert again.ask() is not None
    assert again.ask() is not None
    third = again.ask()
    assert third is not None
    again.report(third.number, 1, 0.7)
    assert again.should_prune(third.number) == ""
    assert again.should_prune(1) == ""
    assert again.should_prune(0) == "asha: 0.5 at report 1 is not the best of 2"
    again.report(0, 1, 0.5)  # trained again from its last checkpoint
    assert again.should_prune(0) == "asha: 0.5 at report 1 is not the best of 2"


def test_tpe_learns_from_how_far_pruned_trials_came(tmp_path: Path) -> None:
    suggested = []
    for name, sign in (("up", 1), ("down", -1)):
        replay = Replay(tmp_path / name, curves(40, 2), AshaOptions(), sampler=TPEOptions(n_startup_trials=8))
        study = replay.open()
        for _ in range(9):
            suggestion = study.ask()
            assert suggestion is not None
            study.report(suggestion.number, 1, sign * suggestion.assignment["row"])
            study.prune(suggestion.number, "asha")
        suggested.append([study.ask() for _ in range(3)])
    rows = [[each.assignment["row"] for each in some if each is not None] for some in suggested]
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    ("value", "scheduler"),
    [
        (math.nan, NoScheduler()),
        (math.nan, AshaOptions()),
        (math.nan, MedianOptions(min_trials=1)),
        (math.inf, AshaOptions()),
        (-math.inf, MedianOptions(min_trials=1)),
    ],
)
def test_no_number_ends_every_trial(value: float, scheduler: SchedulerOptions, tmp_path: Path) -> None:
    replay = Replay(tmp_path / "s.journal", curves(8, 3), scheduler, sampler=TPEOptions(n_startup_trials=2))
    study = replay.open()
    ends: list[Callable[[int], None]] = [
        lambda number: study.finish(number, 0.5),
        lambda number: study.prune(number, "asha"),
        lambda number: study.diverge(number, "the metric is nan at report 1"),
        lambda number: study.finish(number, value),
        lambda number: study.fail(number, "ValueError: bad"),
        lambda number: study.infeasible(number, "out of memory"),
    ]
    for end in ends:
        suggestion = study.ask()
        assert suggestion is not None
        study.report(suggestion.number, 1, value)
        why = study.should_prune(suggestion.number)
        assert "nan" in why if math.isnan(value) and scheduler.kind != "none" else True
        end(suggestion.number)
    outcomes = [trial.outcome for trial in study.trials if not trial.is_free]
    assert outcomes == ["finished", "pruned", "diverged", "diverged", "failed", "infeasible"]
    assert not study.optuna.get_trials(states=(TrialState.RUNNING,))
    assert study.ask() is not None  # the sampler can do with what it finds


def test_a_diverged_trial_ranks_below_every_pruned_one(tmp_path: Path) -> None:
    """However far it came: Optuna ranks pruned trials by that first."""
    study = Replay(tmp_path / "s.journal", curves(4, 9), NoScheduler(), sampler=RandomOptions()).open()
    assert study.ask() is not None
    assert study.ask() is not None
    study.report(0, 1, 0.3)
    study.prune(0, "asha")
    for report in range(1, 9):
        study.report(1, report, 0.9)
    study.diverge(1, "the metric is nan at report 9")
    pruned, diverged = study.optuna.trials
    assert (pruned.constraints, diverged.constraints) == ({}, {"feasible": 1.0})
    assert study.trials[1].why == "the metric is nan at report 9"


class SearchSpec(Part):
    """As the spec of a search has it."""

    scheduler: AnyScheduler = NoScheduler()


def read(tmp_path: Path, text: str) -> SchedulerOptions:
    """The scheduler of a file of this text."""
    path = tmp_path / "search.yaml"
    path.write_text(f"scheduler: {text}\n")
    return validate(SearchSpec, load_source(path)).scheduler


def test_the_section_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "{kind: asha, grace_period: 2, reduction_factor: 4}") == AshaOptions(
        grace_period=2, reduction_factor=4
    )
    assert read(tmp_path, "{kind: none}") == SearchSpec().scheduler == NoScheduler()
    assert read(tmp_path, "{kind: hyperband, max_reports: 9}") == HyperbandOptions(max_reports=9)
    assert read(tmp_path, "{kind: median, percentile: 25.0}") == MedianOptions(percentile=25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: ahsa}", "did you mean asha"),
        ("{kind: asha, grace: 2}", "unknown key; the keys here are kind, grace_period, reduction_factor, max_reports"),
        ("{kind: asha, grace_period: 9, max_reports: 9}", r"grace_period: must be below max_reports \(9\); got 9"),
        ("{kind: asha, reduction_factor: 1}", "reduction_factor"),
        ("{kind: hyperband}", "max_reports"),
        ("{kind: hyperband, grace_period: 2, max_reports: 5}", r"grace_period x reduction_factor \(6\).*take asha"),
        ("{kind: median, percentile: 100.0}", "percentile"),
    ],
)
def test_what_cannot_be_is_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULERS if kind != "none"])
def test_several_metrics_have_no_scheduler(kind: str, tmp_path: Path) -> None:
    scheduler = SCHEDULERS[kind].model_validate({"kind": kind} | ({"max_reports": 9} if kind == "hyperband" else {}))
    metrics = [ACCURACY, MetricOptions(name="speed")]
    space = Space((Dimension("row", Choice((1, 2)), paths=("row",)),))
    with pytest.raises(SpecError, match=r"scheduler\.kind: compares trials by one metric.*search by one metric; got"):
        Study("s", space, SearchOptions(), metrics, str(tmp_path / "s.journal"), scheduler=scheduler)
    study = Study("s", space, SearchOptions(), metrics, str(tmp_path / "s.journal"))
    assert study.ask() is not None
    study.report(0, 1, [0.1, 0.2])
    assert study.should_prune(0) == ""


def test_a_scheduler_judges_before_trials_end() -> None:
    stop = StopOptions(max_reports=9)
    (problem,) = scheduler_problems(AshaOptions(grace_period=9), 1, stop)
    assert str(problem) == "scheduler.grace_period: must be below stop.max_reports (9), or no trial is judged; got 9"
    (problem,) = scheduler_problems(HyperbandOptions(max_reports=27), 1, stop)
    assert str(problem) == "scheduler.max_reports: must be at most stop.max_reports (9); got 27"
    assert not list(scheduler_problems(AshaOptions(grace_period=3), 1, stop))
