"""Searches of real trials in this process: what becomes of each, and of a search whose driver dies at any moment."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.folder import RunFolder
from reforge.runs.job import PretrainJob
from reforge.runs.load import load
from reforge.runs.members import Summary
from reforge.runs.predictor import load_predictor
from reforge.runs.pretrain import pretrain
from reforge.runs.search_results import finish_best, job_again, keep_best
from reforge.runs.search_run import BEST_STEP, ENDED_EARLY, STEPS
from reforge.runs.trial import TrialReport, TrialTask, Workplace, run_trial
from reforge.runs.trial_process import TrialProcess
from reforge.search.records import TrialRecord
from reforge.spec import UserError, load_source, validate
from reforge.tracking import read_metrics

CPU = torch.device("cpu")
LOSS = "metric: {name: valid/loss, mode: min}\n"

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

Searching = Callable[..., Any]  # conftest.py
ACCURACY = "metric: {name: valid/accuracy}\n"
RATES = "space: {optimizer.lr: {low: 1.0e-6, high: 1.0e+12, log: true}}\n"


def points(*rates: float, path: str = "optimizer.lr", more: str = "") -> str:
    """The `search:` section of trials with these values, one after the other."""
    listed = ", ".join(f"{{{path}: {rate!r}}}" for rate in rates)
    return f"search: {{num_trials: {len(rates)}, points_to_evaluate: [{listed}]{more}}}\n"


def same(records: Sequence[TrialRecord]) -> list[Any]:
    """What must be equal of a search that was interrupted and one that was not."""
    steps = (STEPS, BEST_STEP, ENDED_EARLY)
    return [
        (r.number, r.outcome, r.values, r.assignment, r.intermediate, r.why, [r.facts.get(name) for name in steps])
        for r in records
    ]


@pytest.mark.parametrize("scope", ["best", "last", "mean"])
def test_a_trial_is_worth_what_the_scope_makes_of_its_reports(searching: Searching, scope: str) -> None:
    searched = searching(f"metric: {{name: valid/loss, mode: min, scope: {scope}}}\n" + RATES + points(0.3))
    [record] = searched.drive()
    curve = list(record.intermediate.values())
    assert len(set(curve)) == 3
    assert record.values == ({"best": min, "last": lambda v: v[-1], "mean": fmean}[scope](curve),)
    assert record.facts[STEPS] == 6
    assert record.facts[BEST_STEP] == 2 * (1 + curve.index(min(curve)))


def test_of_several_metrics_there_is_a_front(searching: Searching) -> None:
    metric = "metric: [{name: valid/accuracy}, {name: num_parameters, mode: min}]\n"
    searched = searching(metric + "space: {model.d_model: [8, 32]}\n" + points(32, 8, path="model.d_model"))
    large, small = searched.drive()
    assert small.values[1] < large.values[1] == large.facts["num_parameters"]
    run = searched.run()
    assert run.study.best[-1].number == small.number
    names = sorted(each.spec.name for each in keep_best(run))
    assert names == sorted(f"best-{record.number:04d}.yaml" for record in run.study.best)


def test_a_scheduler_stops_what_compares_badly(searching: Searching) -> None:
    scheduler = "scheduler: {kind: asha, grace_period: 1, reduction_factor: 2}\n"
    good, bad = searching(LOSS + RATES + scheduler + points(1e-2, 1e-6)).drive()
    assert (good.outcome, bad.outcome) == ("finished", "pruned")
    assert list(good.intermediate) == [1, 2, 3]
    assert list(bad.intermediate) == [1]
    assert bad.why.startswith("asha: ")
    assert bad.facts[STEPS] == 2


def plant_a_fault(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """What no message of ours speaks of: trials of these numbers divide by zero before their first step."""

    def faulty(task: TrialTask, place: Workplace) -> Iterator[TrialReport]:
        if task.number in numbers:
            raise ZeroDivisionError("planted")
        yield from run_trial(task, place)

    monkeypatch.setattr("reforge.runs.trial_process.run_trial", faulty)


def test_what_goes_wrong_in_a_trial_does_not_end_the_search(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = searching(ACCURACY + RATES + points(1e12, 1e-3, 1e-4))
    plant_a_fault(monkeypatch, 1)
    diverged, raised, finished = searched.drive()
    assert diverged.outcome == "diverged"
    assert "training diverged at step" in diverged.why
    assert raised.outcome == "failed"
    assert raised.why.startswith("ZeroDivisionError: ")
    assert finished.outcome == "finished"


def test_more_failures_than_may_be_end_the_search(searching: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = searching(ACCURACY + RATES + points(1e-3, 1e-4, 1e-5, more=", max_failed_trials: 1"))
    plant_a_fault(monkeypatch, 0, 1)
    with pytest.raises(UserError, match=r"2 trials failed, more than max_failed_trials \(1\); the last, trial 1: .+"):
        searched.drive()
    assert [record.outcome for record in searched.study().trials] == ["failed", "failed", "waiting"]
    assert "Traceback" in searched.study().trials[1].traceback


@pytest.mark.parametrize(
    ("on_oom", "outcome"), [("prune", "infeasible"), ("shrink_batch", "infeasible"), ("fail", "failed")]
)
def test_a_trial_whose_memory_is_refused(searching: Searching, on_oom: str, outcome: str) -> None:
    space = f"space: {{model.d_model: [8, {2**40}]}}\non_oom: {on_oom}\n"
    [record] = searching(ACCURACY + space + points(2**40, path="model.d_model")).drive()
    assert record.outcome == outcome
    assert record.why.startswith("out of memory: ")


@pytest.mark.slow  # takes seconds
def test_folds_are_a_running_mean_and_their_test_sets_may_be_asked_for(searching: Searching) -> None:
    folds = "cv: {folds: 3}\ndata: {test_fraction: 0.0}\ntrain: {max_epochs: 1}\n"
    metrics = "metric: [{name: test/accuracy}, {name: test/loss, mode: min}]\n"
    searched = searching(folds + metrics + RATES + points(1e-2))
    [record] = searched.drive()
    best = job_again(searched.run(), record, "again")
    results = {name: finetune(member, member.folder, CPU) for name, member in best.members()}
    mean = Summary.of(results).mean
    assert record.values == (mean["test/accuracy"], mean["test/loss"])


@pytest.mark.slow  # takes seconds
def test_seeds_are_a_running_mean_that_is_pruned_on(searching: Searching) -> None:
    several = "repeat: {seeds: [1, 2, 3]}\ntrain: {max_epochs: 1}\n"
    scheduler = "scheduler: {kind: asha, grace_period: 1, reduction_factor: 2}\n"
    searched = searching(several + LOSS + RATES + scheduler + points(3e-2, 1e-6))
    good, bad = searched.drive()
    assert (good.outcome, bad.outcome) == ("finished", "pruned")
    assert list(good.intermediate) == [1, 2, 3]
    assert good.values == (good.intermediate[3],)
    assert len(list((searched.options.folder / "trials" / "0001" / "members").iterdir())) == 1
    best = job_again(searched.run(), good, "again")
    results = {name: finetune(member, member.folder, CPU) for name, member in best.members()}
    assert good.values == (Summary.of(results).mean["valid/loss"],)


@pytest.mark.slow  # takes seconds
@pytest.mark.parametrize(
    ("sections", "why", "reports"),
    [
        ("metric: {name: valid/accuracy}\nstop: {patience: 1}\n", "patience: ", 2),
        ("metric: {name: valid/loss, mode: min, scope: last}\nstop: {max_reports: 2}\n", "max_reports: ", 2),
        ("metric: {name: valid/loss, mode: min}\n", "", 3),
    ],
)
def test_the_best_trial_is_trained_again_and_loads(searching: Searching, sections: str, why: str, reports: int) -> None:
    searched = searching(sections + RATES + points(3e-2))
    [record] = searched.drive()
    assert record.outcome == "finished"
    assert record.why.startswith(why)
    assert bool(record.why) == bool(why)
    assert len(record.intermediate) == reports
    [best] = keep_best(searched.run())
    job = validate(FinetuneJob, load_source(best.spec))
    name = searched.options.metrics[0].name
    assert finetune(job, job.folder, CPU).metrics[name] == record.values[0]
    finish_best(best, CPU, None)
    assert RunFolder(best.folder).read_result()["metrics"][name] == record.values[0]
    predictor = load_predictor(best.folder)
    assert predictor.model.training is False


@pytest.mark.slow  # takes seconds
@pytest.mark.parametrize("scope", ["best", "last"])
def test_a_pretraining_whose_best_was_not_its_last(searching: Searching, scope: str) -> None:
    metric = f"metric: {{name: valid/bits_per_byte, mode: min, scope: {scope}}}\n"
    searched = searching(metric + RATES + "stop: {max_reports: 2}\n" + points(3.0), base="tiny")
    [record] = searched.drive()
    first, second = record.intermediate.values()
    assert first < second
    [best] = keep_best(searched.run())
    job = validate(PretrainJob, load_source(best.spec))
    assert job.run.prepared_root == searched.options.run.storage / "_prepared"
    assert pretrain(job, job.folder, searched.prepared, CPU).metrics["bits_per_byte"] == record.values[0]
    finish_best(best, CPU, searched.prepared)
    assert RunFolder(best.folder).read_result()["metrics"]["bits_per_byte"] == record.values[0]
    load(best.folder)


RESUMED = LOSS + RATES + "scheduler: {kind: asha, grace_period: 1, reduction_factor: 2}\nstop: {patience: 1}\n"
RESUMED += "search: {num_trials: 4, points_to_evaluate: [{optimizer.lr: 0.01}, {optimizer.lr: 1.0e+12}], "
RESUMED += "sampler: {kind: tpe, n_startup_trials: 2, seed: 2}}\n"


SEEDS = "repeat: {seeds: [1, 2]}\ntrain: {max_epochs: 2}\n"


@pytest.mark.parametrize("sections", [RESUMED, pytest.param(SEEDS + RESUMED, marks=pytest.mark.slow)])
def test_a_driver_that_dies_at_any_moment(searching: Searching, sections: str) -> None:
    undisturbed = searching(sections, name="undisturbed")
    expected = same(undisturbed.drive())
    killed = searching(sections, name="killed")
    starts = 0
    for count in cycle((4, 1, 5, 2, 3)):  # each gets so far
        starts += 1
        driver = killed.moments(killed.run())
        if len(list(islice(driver, count))) < count:
            break
        driver.close()
    assert starts > 7
    assert same(killed.study().trials) == expected
    for trial in (undisturbed.options.folder / "trials").iterdir():
        again = killed.options.folder / "trials" / trial.name
        assert reached(trial) == reached(again)


def reached(trial: Path) -> list[Any]:
    """Every validation of a trial."""
    files = sorted(trial.rglob("metrics.jsonl"))
    rows = [(file.relative_to(trial), row) for file in files for row in read_metrics(file)]
    return [
        (f, {n: v for n, v in row.items() if n.startswith("valid/") or n == "step"})
        for f, row in rows
        if "valid/loss" in row
    ]


def test_checkpoints_of_what_is_neither_best_nor_running_go(searching: Searching) -> None:
    searched = searching(LOSS + RATES + points(1e-2, 1e-5, 1e-6))
    run, process = searched.run(), TrialProcess(str(Path.cwd()), 1, 0.0)
    for _ in range(2):  # two at a time when the driver dies
        task = run.next_trial()
        assert task is not None
        process.begin(task)
        run.judge(task.number, process.advance())
    process.end()
    trials = searched.options.folder / "trials"
    again = searched.run()
    for _ in searched.moments(again):
        again.drop_checkpoints()
        if 0 in again.running or 1 in again.running:
            assert (trials / "0001" / "checkpoints").is_dir()
    again.drop_checkpoints()
    assert sorted(path.parent.name for path in trials.glob("*/checkpoints")) == ["0000"]
