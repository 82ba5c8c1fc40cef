"""What people see of a search while it runs: the table, TensorBoard's HParams, trials.csv. Checkpoints in bounds.

SearchRun --began, reported, ended--> SearchKeeper --> trials.csv, tensorboard/, the terminal; checkpoints removed
"""

import time
from collections.abc import Mapping
from typing import Any

from reforge.runs.search_run import SECONDS_TRAINED, STEPS, TRIALS, RunningTrial, SearchRun, Watch
from reforge.runs.tune_job import TuneOptions
from reforge.search.dimension import Range
from reforge.search.records import TrialRecord
from reforge.search.space import Space
from reforge.search.study import Study
from reforge.search.trials_csv import write_trials
from reforge.search.values import values_of
from reforge.tracking.hparams import HParamsBoard, Interval, label
from reforge.tracking.trial_columns import TrialRow
from reforge.tracking.trials_table import SearchHead, TrialsTable

# trials.csv is written whole each time: a search of thousands of short trials must not spend its time on it.
_CSV_EVERY_SECONDS = 5.0
# What came to nothing, for the share of the compute that was wasted.
_WASTED = ("failed", "infeasible", "diverged")


class SearchKeeper(Watch):
    """Keeps the search's folder as its trials go on."""

    def __init__(self, options: TuneOptions, space: Space, study: Study, table: TrialsTable) -> None:
        self._options, self._study, self._table = options, study, table
        self._root = options.folder / "tensorboard"
        self._board = HParamsBoard(
            self._root,
            domains_of(space),
            [metric.name for metric in options.metrics],
            conditional={path for dimension in space.dimensions if dimension.when for path in dimension.paths},
        )
        self._read()
        self._searched = {path for dimension in space.dimensions for path in dimension.paths}
        self._csv_due = 0.0
        self.run: SearchRun | None = None

    def began(self, trial: RunningTrial) -> None:
        """The trial shows as running."""
        name = trial.task.job.name
        self._board.begin_trial(trial.task.curves, name, trial.suggestion.assignment)

    def reported(self, trial: RunningTrial) -> None:
        """Its metrics so far."""
        names = [metric.name for metric in self._options.metrics]
        values = dict(zip(names, trial.values, strict=True))
        self._board.report_trial(trial.task.curves, trial.history[-1].step, values)

    def ended(self, number: int) -> None:
        """What became of it; the checkpoints of trials that are no longer among the best go."""
        self._read()
        record = self._records[number]
        names = [metric.name for metric in self._options.metrics]
        values = values_of(record, self._options.metrics)
        step = int(record.facts.get(STEPS, 0))
        is_good = record.outcome in ("finished", "pruned", "reused")
        self._board.end_trial(
            self._root / TRIALS / f"{number:04d}",
            f"{number:04d}",
            record.assignment,
            "success" if is_good else "failure",
            dict(zip(names, values, strict=False)),
            step,
        )
        if self.run is not None:
            self.run.drop_checkpoints()
        self.write_csv()
        self.show()

    def write_csv(self, now: bool = False) -> None:
        """trials.csv, unless it was written a moment ago."""
        if now or time.monotonic() >= self._csv_due:
            self._csv_due = time.monotonic() + _CSV_EVERY_SECONDS
            write_trials(self._options.folder / "trials.csv", list(self._records.values()), self._options.metrics)

    def show(self) -> None:
        """The table as things stand."""
        running = self.run.running if self.run is not None else {}
        ended = [self._row(record) for record in self._records.values() if record.outcome not in ("running", "waiting")]
        self._table.update([*ended, *(self._running_row(trial) for trial in running.values())], self._head())

    def _read(self) -> None:
        """What the storage says: it is asked when a trial has ended, not whenever the table is shown."""
        self._records = {record.number: record for record in self._study.trials}
        self._best = [record.number for record in self._study.best]

    def _head(self) -> SearchHead:
        records = self._records.values()
        counted = [r for r in records if not r.is_free and r.outcome not in ("running", "waiting", "added")]
        spent = sum(float(record.facts.get(SECONDS_TRAINED, 0.0)) for record in records)
        wasted = sum(float(record.facts.get(SECONDS_TRAINED, 0.0)) for record in records if record.outcome in _WASTED)
        options = self._options
        return SearchHead(
            name=options.name,
            metrics=[metric.name for metric in options.metrics],
            done=len(counted),
            total=options.search.num_trials,
            seconds=self._study.seconds_used,
            budget_seconds=options.search.time_budget_seconds,
            best=self._best,
            wasted=wasted / spent if spent else None,
        )

    def _row(self, record: TrialRecord) -> TrialRow:
        return TrialRow(
            number=record.number,
            status=record.outcome,
            parameters=self._labels(record.assignment),
            reports=len(record.intermediate),
            values=values_of(record, self._options.metrics),
            seconds=float(record.facts.get(SECONDS_TRAINED, record.seconds or 0.0)),
            why=record.why,
        )

    def _running_row(self, trial: RunningTrial) -> TrialRow:
        return TrialRow(
            number=trial.suggestion.number,
            status="running",
            parameters=self._labels(trial.suggestion.assignment),
            reports=len(trial.history),
            values=trial.values if trial.history else [],
            seconds=trial.history[-1].seconds if trial.history else 0.0,
        )

    def _labels(self, assignment: Mapping[str, Any]) -> dict[str, str]:
        return {path: label(value) for path, value in assignment.items() if path in self._searched}


def domains_of(space: Space) -> dict[str, Any]:
    """What each key path may be, as the HParams page has it."""
    ranges: dict[str, Any] = {}
    choices: dict[str, list[Any]] = {}
    for dimension in space.dimensions:
        if isinstance(dimension.domain, Range):
            ranges[dimension.paths[0]] = Interval(dimension.domain.low, dimension.domain.high)
            continue
        for path in dimension.paths:
            values = choices.setdefault(path, [])
            settings = [dimension.settings(value)[path] for value in dimension.domain.values]
            values += [each for index, each in enumerate(settings) if each not in [*values, *settings[:index]]]
    return ranges | choices
