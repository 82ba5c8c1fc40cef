"""What passes between the last report of a trial and the first optimizer step of the next, on warm actors.

    .venv/bin/python benchmarks/search_overhead.py                       one process a trial, then two
    .venv/bin/python benchmarks/search_overhead.py --workers 1 --trials 40 --json figures.json

A search of short fine-tunings (a two-layer Transformer, d_model 64, 240 sentences), one trial at a time, each stopped
after its first validation. Stages, by the clocks of the driver and of the trials' own files:

    checkpoint   the last figures are logged -> the report reaches the driver: checkpoint, Ray
    tell         the driver tells the study, TensorBoard, trials.csv
    Ray Tune     -> the next trial is asked for
    ask          the study draws it
    reset        -> the actor begins with it
    set-up       the set, the tokenizer, rows, the model, the event file
    first step   the first optimizer step
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path

from search_workload import open_search
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from reforge.distributed.cluster import find_resources, start_if_none
from reforge.distributed.tune import run_search, trial_shape
from reforge.runs.search_keeping import SearchKeeper
from reforge.runs.search_run import TRIALS, SearchRun
from reforge.runs.trial import TrialTask
from reforge.runs.trial_process import Advance
from reforge.tracking.trials_table import TrialsTable

STAGES = ("checkpoint", "tell", "Ray Tune", "ask", "reset", "set-up", "first step")
# The first trials of a process import what they need.
WARM_UP = 2


@dataclass
class Moments:
    """Of one trial, in seconds of the wall clock."""

    asked: float = 0.0
    handed_out: float = 0.0
    judged_from: float = 0.0
    judged: float = 0.0


class TimedRun(SearchRun):
    """A search that notes when its driver is called."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.moments: dict[int, Moments] = {}

    def next_trial(self) -> TrialTask | None:
        asked = time.time()
        task = super().next_trial()
        if task is not None:
            self.moments[task.number] = Moments(asked, time.time())
        return task

    def judge(self, number: int, advance: Advance, *measured: object) -> bool:
        moments, called = self.moments[number], time.time()
        is_over = super().judge(number, advance, *measured)  # type: ignore[arg-type]
        moments.judged_from, moments.judged = called, time.time()
        return is_over


def stages_of(run: TimedRun, number: int) -> list[float]:
    """Seconds of each stage between a trial and the one after it."""
    folder, curves = run.options.folder / TRIALS / f"{number + 1:04d}", run.options.folder / "tensorboard" / TRIALS
    before, after = run.moments[number], run.moments[number + 1]
    moments = [
        max(at for at, tag in events(curves / f"{number:04d}") if tag.startswith("valid/")),
        before.judged_from,
        before.judged,
        after.asked,
        after.handed_out,
        (folder / "spec.yaml").stat().st_mtime,
        min(at for at, tag in events(curves / f"{number + 1:04d}")),
        min(at for at, tag in events(curves / f"{number + 1:04d}") if tag == "train/loss"),
    ]
    return [late - early for early, late in pairwise(moments)]


def events(folder: Path) -> Iterator[tuple[float, str]]:
    """When each point of a trial's curves was made, and its tag; "" for the file's own."""
    for file in folder.glob("events.*"):
        if file.suffix != ".hparams":
            for event in EventFileLoader(str(file)).Load():
                yield from ((event.wall_time, value.tag) for value in event.summary.value)
                if not event.summary.value:
                    yield event.wall_time, ""


def measure(num_workers: int, num_trials: int) -> list[list[float]]:
    """Stages by trial."""
    resources = find_resources()
    start_if_none(resources)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"resources.num_workers={num_workers}", f"search.num_trials={num_trials}"]
        search, study = open_search(Path(folder), *overrides, "stop={max_reports: 1}")
        with TrialsTable(StringIO()) as table:
            keeper = SearchKeeper(search.options, search.space, study, table)
            run = keeper.run = TimedRun(search, study, watch=keeper)
            run_search(run, trial_shape(search.options.resources, resources), 1, keeper.show)
        return [stages_of(run, number) for number in range(WARM_UP, num_trials - 1)]


def show(title: str, rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Print and give median and 90th percentile of every stage, in milliseconds."""
    columns = {name: [row[index] for row in rows] for index, name in enumerate(STAGES)}
    columns["in all"] = [sum(row) for row in rows]
    print(f"\n{title}, {len(rows)} times; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'ms':<12} {'median':>8} {'90 %':>8}")
    figures = {}
    for name, values in columns.items():
        median, high = statistics.median(values), statistics.quantiles(values, n=10)[-1]
        figures[name] = [1e3 * median, 1e3 * high]
        print(f"{name:<12} {1e3 * median:>8.0f} {1e3 * high:>8.0f}")
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes that train a trial")
    parser.add_argument("--trials", type=int, default=22)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    figures = {}
    for num_workers in options.workers:
        title = "one process a trial" if num_workers == 1 else f"{num_workers} processes a trial"
        figures[num_workers] = show(title, measure(num_workers, options.trials))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
