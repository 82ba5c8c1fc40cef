"""Searches replayed on a grid that was trained once: what they find in a part of the grid's compute.

    ask -> the cell's curve, report by report, on as many workers as train at once -> pruned | finished -> ask ...

Time is simulated and costs what the curves cost; nothing is trained. A search ends when its workers have used up the
budget together, and what is then unfinished is lost. As in the product, only finished trials have a value: the best of
their reports (`scope: best`).
"""

import heapq
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_grid import Cell, drawn

from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.samplers import RandomOptions, SamplerOptions, TPEOptions
from reforge.search.schedulers import AshaOptions, NoScheduler, SchedulerOptions
from reforge.search.space import Space
from reforge.search.study import Study, Suggestion

NEAR = 0.005  # half a point of accuracy
IN_MEMORY = Path("/dev/shm")  # of Linux: no waiting for the disk


@dataclass(frozen=True)
class Contender:
    """A way to search. sampler: built with the seed."""

    sampler: type[SamplerOptions]
    scheduler: SchedulerOptions
    sampler_options: Mapping[str, Any] = field(default_factory=dict)


CONTENDERS: Mapping[str, Contender] = {
    "TPE, ASHA": Contender(TPEOptions, AshaOptions()),
    "TPE": Contender(TPEOptions, NoScheduler()),
    "TPE, ASHA from report 1": Contender(TPEOptions, AshaOptions(grace_period=1)),
    "random, ASHA": Contender(RandomOptions, AshaOptions()),
    "random": Contender(RandomOptions, NoScheduler()),
}


@dataclass(frozen=True)
class Outcome:
    """One search. best: of its finished trials, None where none finished; tried: cells that it has begun to train."""

    best: float | None
    tried: int
    finished: int


@dataclass(frozen=True)
class Table:
    """The curves by what was drawn."""

    cells: Mapping[object, Cell]

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> "Table":
        """Of a grid's cells."""
        return cls({drawn(cell.assignment): cell for cell in cells})

    def cell(self, assignment: Mapping[str, Any]) -> Cell:
        """The cell of a draw."""
        return self.cells[drawn(assignment)]

    @property
    def best(self) -> float:
        """The grid's best."""
        return max(value_of(cell) for cell in self.cells.values())

    @property
    def num_reports(self) -> int:
        """Of a whole trial."""
        return len(next(iter(self.cells.values())).reports)

    @property
    def seconds(self) -> float:
        """The grid's compute."""
        return sum(cell.seconds for cell in self.cells.values())


def value_of(cell: Cell) -> float:
    """The best of its reports."""
    return max(report.value for report in cell.reports)


def replay(space: Space, table: Table, contender: Contender, seed: int, budget: float, workers: int = 2) -> Outcome:
    """One search of `budget` seconds of all workers together."""
    sampler = contender.sampler(seed=seed, **contender.sampler_options)
    options = SearchOptions(sampler=sampler, num_trials=len(table.cells), max_concurrent=workers)
    metric = MetricOptions(name="valid/accuracy")
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        storage, scheduler = str(Path(folder) / "study.journal"), contender.scheduler.of_trials(table.num_reports)
        study = Study("replay", space, options, [metric], storage, scheduler=scheduler)
        _run(study, table, budget / workers, workers)
        finished = [record for record in study.trials if record.outcome == "finished"]
        trained = [record for record in study.trials if record.outcome in ("finished", "pruned", "running")]
    return Outcome(max((record.values[0] for record in finished), default=None), len(trained), len(finished))


def _run(study: Study, table: Table, until: float, workers: int) -> None:
    """Workers take the next trial as they become free, in simulated time; equal times in the order of the trials."""
    waiting: list[tuple[float, int, Iterator[float]]] = []
    now = 0.0
    while True:
        while len(waiting) < workers and (suggestion := _next(study)) is not None:
            steps = _train(study, suggestion, table.cell(suggestion.assignment))
            heapq.heappush(waiting, (now + next(steps), suggestion.number, steps))
        if not waiting or waiting[0][0] > until:
            return
        now, number, steps = heapq.heappop(waiting)
        if (seconds := next(steps, None)) is not None:
            heapq.heappush(waiting, (now + seconds, number, steps))


def _next(study: Study) -> Suggestion | None:
    while (suggestion := study.ask()) is not None and suggestion.action != "run":
        pass
    return suggestion


def _train(study: Study, suggestion: Suggestion, cell: Cell) -> Iterator[float]:
    """Tells the study what the cell's curve says; gives the seconds to the next report, or to the end."""
    number, since = suggestion.number, 0.0
    for index, report in enumerate(cell.reports, start=1):
        yield report.seconds - since
        since = report.seconds
        study.report(number, index, report.value)
        if index < len(cell.reports) and (why := study.should_prune(number)):
            study.prune(number, str(why))
            return
    yield cell.seconds - since
    study.finish(number, value_of(cell))


def compare(
    space: Space, cells: Sequence[Cell], contenders: Mapping[str, Contender], seeds: int, share: float
) -> dict[str, list[Outcome]]:
    """Every contender from every seed, a line each."""
    table = Table.of(cells)
    ranked = sorted((value_of(cell) for cell in table.cells.values()), reverse=True)
    near = sum(value >= table.best - NEAR for value in ranked)
    print(
        f"{len(cells)} cells, {table.seconds:,.0f} s in full; best {table.best:.2%}, {near} within half a point of it"
    )
    print(f"{share:.0%} of the compute, {seeds} seeds")
    print(f"{'':24} within 0.5 points   median short of best   worst   median tried   finished")
    outcomes = {}
    for name, contender in contenders.items():
        found = [replay(space, table, contender, seed, share * table.seconds) for seed in range(seeds)]
        outcomes[name] = found
        print(line(name, found, table.best), flush=True)
    return outcomes


def line(name: str, found: Sequence[Outcome], best: float) -> str:
    """A contender's row; a search that finished nothing is short of all of it."""
    regrets = [best - (outcome.best or 0.0) for outcome in found]
    near = sum(regret <= NEAR + 1e-9 for regret in regrets) / len(found)
    tried = statistics.median(outcome.tried for outcome in found)
    finished = statistics.median(outcome.finished for outcome in found)
    regret, worst = 100 * statistics.median(regrets), 100 * max(regrets)
    return f"{name:24} {near:17.0%}   {regret:20.2f}   {worst:5.2f}   {tried:12g}   {finished:8g}"
