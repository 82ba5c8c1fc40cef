"""trials.csv has every trial, and what is read from it is what the study holds."""

import csv
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.records import TrialRecord
from reforge.search.samplers import RandomOptions
from reforge.search.study import Study
from reforge.search.trials_csv import write_trials
from reforge.search.values import values_of

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

LOSS = MetricOptions(name="valid/loss", mode="min")
SPACE = """\
  optimizer.lr: {low: 1e-5, high: 1e-2, log: true}
  train.seed: [1, 2, 3]
  head:
    kind: [cnn, linear]
    when: {cnn: {kernel_sizes: [[3, 4, 5], [2, 3]], dropout: {low: 0.1, high: 0.6, step: 0.1}}}
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def record(number: int = 0, **known: Any) -> TrialRecord:
    told: dict[str, Any] = {"outcome": "finished", "values": (0.5,), "assignment": {}, "intermediate": {}} | known
    rest: Mapping[str, Any] = {"chosen": {}, "traceback": "", "source": None, "seconds": 1.5, "is_free": False}
    return TrialRecord(number=number, **({"why": ""} | rest | told))


def test_a_study_reads_back_exactly(compiled: Any, tmp_path: Path) -> None:
    space = compiled(SPACE).space
    options = SearchOptions(num_trials=6, sampler=RandomOptions(seed=3), max_failed_trials=9)
    study = Study("s", space, options, [LOSS], str(tmp_path / "study.journal"), _no_large_rates)
    for index in range(6):
        suggestion = study.ask()
        assert suggestion is not None
        for step in (1, 2, 3):
            study.report(suggestion.number, step, [0.9, 0.1 + index / 7, 0.5][step - 1])
        study.measured(suggestion.number, {"num_parameters": 33_000_000, "device": 'a "GPU", or two'})
        (_finish, _prune, _fail)[index % 3](study, suggestion.number)
    write_trials(tmp_path / "trials.csv", study.trials, [LOSS])
    written = rows(tmp_path / "trials.csv")
    assert [int(row["number"]) for row in written] == [trial.number for trial in study.trials]
    assert {row["outcome"] for row in written} == {"finished", "pruned", "failed", "infeasible"}
    for row, trial in zip(written, study.trials, strict=True):
        assert row["is_free"] == str(int(trial.outcome == "infeasible"))
        assert {path for path in space_paths(written) if row[path]} == trial.assignment.keys()
        for path, value in trial.assignment.items():
            assert row[path] == value or json.loads(row[path]) == value
        values = (float(row["valid/loss"]),) if row["valid/loss"] else ()
        assert values == values_of(trial, [LOSS])
        assert datetime.fromisoformat(row["ended"]) - datetime.fromisoformat(row["began"]) == timedelta(
            seconds=float(row["seconds"])
        )
        assert row["why"] == trial.why


def space_paths(written: list[dict[str, str]]) -> list[str]:
    return [name for name in written[0] if name.startswith(("optimizer.", "train.", "head."))]


def _no_large_rates(assignment: Mapping[str, Any]) -> list[str]:
    return ["too large"] if assignment["optimizer.lr"] > 1e-3 else []


def _finish(study: Study, number: int) -> None:
    study.finish(number, 1 / 3 + number)


def _prune(study: Study, number: int) -> None:
    study.prune(number, 'asha: no, "never"\nagain')


def _fail(study: Study, number: int) -> None:
    study.fail(number, "ValueError: bad", "Traceback")


def test_values_are_told_apart_by_their_types(tmp_path: Path) -> None:
    values = ["8", 8, "all", "", None, True, "true", [3, 4], 0.1 + 0.2, "값, 둘", "null"]
    records = [record(number, assignment={"a.b": value}) for number, value in enumerate([*values, 0])]
    records[-1] = record(len(values), outcome="waiting", values=(), seconds=None)
    write_trials(tmp_path / "t.csv", records, [LOSS])
    cells = [row["a.b"] for row in rows(tmp_path / "t.csv")]
    assert cells[-1] == ""
    assert [_read(cell) for cell in cells[:-1]] == values


def _read(cell: str) -> object:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def test_pandas_reads_numbers_as_numbers(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    records = [record(0, values=(1 / 3,)), record(1, values=(), outcome="failed", why="x\ry", seconds=None)]
    write_trials(tmp_path / "t.csv", records, [LOSS])
    table = pandas.read_csv(tmp_path / "t.csv")
    assert table["valid/loss"].tolist()[0] == pytest.approx(1 / 3, rel=1e-15)
    assert table["valid/loss"].isna().tolist() == [False, True]
    assert table["why"].tolist()[1] == "x\ny"


@pytest.mark.parametrize(("scope", "value"), [("best", 0.1), ("last", 0.4), ("mean", 0.25)])
def test_a_stopped_trial_has_the_value_of_its_reports(scope: Any, value: float, tmp_path: Path) -> None:
    reports = {3: 0.4, 1: 0.1, 2: float("nan")}
    stopped = record(outcome="pruned", values=(), intermediate=reports)
    metric = MetricOptions(name="valid/loss", mode="min", scope=scope)
    write_trials(tmp_path / "t.csv", [stopped], [metric])
    (row,) = rows(tmp_path / "t.csv")
    assert float(row["valid/loss"]) == value
    assert row["num_reports"] == "3"


def test_what_is_measured_may_be_called_as_a_column_is(tmp_path: Path) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    trial = record(facts={"seconds": 9.5, "odd": "\ud800"}, began=began)
    write_trials(tmp_path / "t.csv", [trial], [LOSS])
    (row,) = rows(tmp_path / "t.csv")
    assert (row["seconds"], row["seconds'"], row["odd"]) == ("1.5", "9.5", "\\ud800")
    assert row["began"] == "2026-01-02T03:04:05+00:00"


def test_no_trials_are_a_head_alone(tmp_path: Path) -> None:
    write_trials(tmp_path / "t.csv", [], [LOSS])
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert text == "number,outcome,is_free,source,valid/loss,num_reports,seconds,began,ended,why\n"
