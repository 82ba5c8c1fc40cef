"""How far a search is: a table in a terminal, plain lines anywhere else.

    cnn-cls  12/40 trials  2 running  12m05s  28m10s left  3% of the compute wasted
    best: trial 7  accuracy 0.8731  lr 3.1e-04  kernel_sizes [3, 4, 5]

    trial            accuracy  reports   time  lr       kernel_sizes
    ────────────────────────────────────────────────────────────────────────────────────
       12  running     0.8123        4  1m20s  3.1e-04  [3, 4, 5]     step 120/400

       11  pruned      0.5120        1    20s  9.1e-04  [4, 5, 6, 7]  below the best half

        7  best        0.8731        9  2m05s  3.1e-04  [3, 4, 5]

Those that run, those that ended last, the best.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from reforge.tracking.progress import duration
from reforge.tracking.terminal import View
from reforge.tracking.trial_columns import GAP, TrialRow, columns_for, fitting, note, score, short, short_names

SUMMARY_EVERY_SECONDS = 15.0
NUM_ENDED = 4
NUM_BEST = 3
FURNITURE_ROWS = 9  # two lines of the head, an empty one, headings, rules, what remains, the cursor


@dataclass(frozen=True)
class SearchHead:
    """What is shown of a search as a whole.

    metrics: in the order of the trials' values
    done, total: trials that count
    seconds: used, by this start and all earlier ones
    budget_seconds: that may be used, None: no limit
    best: numbers of the best trials, best first; of several metrics the Pareto front
    wasted: share of the compute that came to nothing, 0 to 1; None before there is any
    """

    name: str
    metrics: Sequence[str]
    done: int
    total: int
    seconds: float = 0.0
    budget_seconds: float | None = None
    best: Sequence[int] = ()
    wasted: float | None = None


class _State(NamedTuple):
    rows: tuple[TrialRow, ...]
    head: SearchHead
    now: float
    left: float | None


class TrialsTable(View):
    """Shows each `update` while the `with` block lasts, and leaves the last state standing after it.

    `clock` gives seconds. One thread calls at a time. Where `stream` is no terminal it gets whole lines without control
    characters: one when a trial starts, one when it ends, and at most one in 15 seconds of the search. What had ended
    before the first update is not told again.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        # Replaced as a whole, never changed: the terminal's refresh runs in a thread of its own.
        self._latest: _State | None = None
        self._summarized: _State | None = None
        self._summary_due = -math.inf
        self._first: SearchHead | None = None
        self._told: dict[int, str] = {}

    def update(self, rows: Sequence[TrialRow], head: SearchHead) -> None:
        """Take in the trials so far, in the order in which they began or ended, and what holds for all of them."""
        if self._first is None:
            self._first = head
            self._told = {row.number: row.status for row in rows if not row.is_running}
        self._latest = _State(tuple(rows), head, self._clock(), self._left(head))
        if self._live:
            return
        self._tell(rows, head)
        if self._latest.now >= self._summary_due:
            self._summarize()

    def _end_lines(self) -> None:
        if self._latest is not self._summarized:
            self._summarize()

    def _left(self, head: SearchHead) -> float | None:
        """Seconds to the end by the pace of this start; the time budget may come sooner."""
        assert self._first is not None
        budget = math.inf if head.budget_seconds is None else max(0.0, head.budget_seconds - head.seconds)
        done = head.done - self._first.done
        pace = (head.seconds - self._first.seconds) / done if done > 0 else math.inf
        left = min(budget, 0.0 if head.done >= head.total else pace * (head.total - head.done))
        return left if math.isfinite(left) else None

    def _tell(self, rows: Sequence[TrialRow], head: SearchHead) -> None:
        for row in rows:
            if self._told.get(row.number) != row.status:
                self._told[row.number] = row.status
                self.say("  ".join(_started(row) if row.is_running else _ended(row, head)))

    def _summarize(self) -> None:
        assert self._latest is not None
        self._summarized, self._summary_due = self._latest, self._clock() + SUMMARY_EVERY_SECONDS
        self.say("  ".join([*_head(self._latest, 0.0), *_best(self._latest)[:2]]))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as wide as the terminal is now; parameters go first where it is narrow."""
        state = self._latest
        if state is None:
            yield Text("waiting for the first trial")
            return
        # Between two updates only time passes.
        passed = self._clock() - state.now if any(row.is_running for row in state.rows) else 0.0
        yield Text("  ".join(_head(state, passed)), overflow="ellipsis", no_wrap=True, style="bold")
        if best := _best(state):
            yield Text("  ".join(best), overflow="ellipsis", no_wrap=True)
        if state.rows:
            yield from _table(state, passed, options.max_width, console.size.height)


def _table(state: _State, passed: float, width: int, height: int) -> RenderResult:
    ended = [row for row in state.rows if not row.is_running][: -NUM_ENDED - 1 : -1]
    best = _best_rows(state)[:NUM_BEST]
    all_running = [row for row in state.rows if row.is_running]
    running = all_running[: max(2, height - FURNITURE_ROWS - len(ended) - len(best))]
    rows = [*running, *ended, *best]
    statuses = [*(row.status for row in (*running, *ended)), *("best" for _ in best)]

    def seconds(row: TrialRow) -> str:
        shown = row.seconds + (passed if row.is_running else 0.0)
        return duration(shown) if shown or row.is_running else ""

    columns = fitting(columns_for(rows, statuses, state.head.metrics, seconds), width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column.is_right else "left"
        table.add_column(column.heading, width=column.width, justify=justify, no_wrap=True, overflow="ellipsis")
    ends = {len(running) - 1, len(running) + len(ended) - 1}
    for index in range(len(rows)):
        table.add_row(*(Text(column.cells[index]) for column in columns), end_section=index in ends)
    yield Text()
    yield table
    if len(all_running) > len(running):
        yield Text(f"and {len(all_running) - len(running)} more that run")


def _head(state: _State, passed: float) -> list[str]:
    head, num_running = state.head, sum(row.is_running for row in state.rows)
    words = [head.name, f"{head.done}/{head.total} trials", f"{num_running} running"]
    words.append(duration(head.seconds + passed))
    if state.left is not None:
        words.append(f"{duration(max(0.0, state.left - passed))} left")
    return words if head.wasted is None else [*words, f"{head.wasted:.0%} of the compute wasted"]


def _best(state: _State) -> list[str]:
    """The best trial; of several metrics how many are on the front, which the table lists."""
    rows = _best_rows(state)
    if not rows:
        return []
    if len(state.head.metrics) > 1:
        return [f"best: a front of {len(rows)} trials"]
    return [f"best: trial {rows[0].number}", *_values(rows[0], state.head), *_parameters(rows[0])]


def _best_rows(state: _State) -> list[TrialRow]:
    rows = {row.number: row for row in state.rows}
    return [rows[number] for number in state.head.best if number in rows]


def _started(row: TrialRow) -> list[str]:
    return [f"trial {row.number} started", *_parameters(row)]


def _ended(row: TrialRow, head: SearchHead) -> list[str]:
    reports = [f"{row.reports} report{'s' * (row.reports != 1)}", duration(row.seconds)] if row.reports else []
    return [f"trial {row.number} {row.status}", *_values(row, head), *reports, *filter(None, [note(row)])]


def _values(row: TrialRow, head: SearchHead) -> list[str]:
    names = short_names(head.metrics).values()
    return [f"{name} {score(value)}" for name, value in zip(names, row.values, strict=False)]


def _parameters(row: TrialRow) -> list[str]:
    names = short_names(row.parameters)
    return [f"{names[path]} {short(label)}" for path, label in row.parameters.items()]
