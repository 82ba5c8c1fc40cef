"""How far a run is: a bar in a terminal, plain lines anywhere else.

    terminal   120/400 ━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━━  loss 5.432  12,345 tokens/s  1m20s left
    log file   step 120/400  loss 5.432  lr 9.8e-04  12,345 tokens/s  1m20s left

A shell's redirection, CI and a dumb terminal all count as a log file.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reforge.tracking.terminal import View

LOG_EVERY_SECONDS = 10.0
WINDOW_SECONDS = 600.0  # time left goes by this much of the past: evaluations count, last night's speed does not
NARROWEST_BAR = 12


class _State(NamedTuple):
    step: int
    fields: tuple[str, ...]


class Progress(View):
    """Shows each `update` while the `with` block lasts, and leaves the last state standing after it.

    `total_steps` may be set anew when it is known better.
    `start_step` is the step a resumed run goes on from: only steps done here tell the time that is left. `clock` gives
    seconds. One thread calls at a time. Where `stream` is no terminal it gets whole lines without control characters:
    the first update, the last one, and at most one in ten seconds between.
    """

    def __init__(
        self,
        total_steps: int,
        stream: TextIO | None = None,
        start_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self.total_steps = total_steps
        self._clock = clock
        self._started = clock()
        self.start_step = start_step
        self._log_due = -math.inf

    @property
    def start_step(self) -> int:
        """The step this run goes on from; set it when that is known only later, or anew after a lost worker."""
        return self._start_step

    @start_step.setter
    def start_step(self, step: int) -> None:
        self._start_step = step
        self._pace = _Pace()
        # Replaced as a whole, never changed: the terminal's refresh runs in a thread of its own.
        self._latest = self._logged = _State(step, ("waiting for the first step",))

    def update(self, step: int, loss: float, tokens_per_second: float, lr: float) -> None:
        """Take in a finished step; `step` may go back, as it does when a lost worker's steps are done again."""
        now = self._clock()
        self._pace.reach(step, now)
        rate = f"{tokens_per_second:,.0f} tokens/s"
        self._latest = _State(step, (f"loss {loss:.3f}", f"lr {lr:.1e}", rate, *self._time(step)))
        if not self._live and (step >= self.total_steps or now >= self._log_due):
            self._log()

    def _end_lines(self) -> None:
        if self._latest is not self._logged:
            self._log()

    def _log(self) -> None:
        self._logged, self._log_due = self._latest, self._clock() + LOG_EVERY_SECONDS
        line = "  ".join([f"step {self._latest.step}/{self.total_steps}", *self._latest.fields])
        print(line, file=self._stream, flush=True)

    def _time(self, step: int) -> list[str]:
        if step >= self.total_steps:
            return [f"done in {duration(self._clock() - self._started)}"]
        left = self._pace.seconds_for(self.total_steps - step)
        return [] if left is None else [f"{duration(left)} left"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar as wide as the terminal is now; where it is narrow the learning rate goes first, then the speed."""
        step, fields = self._latest
        count = f"{step}/{self.total_steps}"
        for dispensable in ("lr ", " tokens/s"):
            if len("  ".join([count, *fields])) + NARROWEST_BAR + 2 > options.max_width:
                fields = tuple(field for field in fields if dispensable not in field)
        facts = "  ".join(fields)
        width = options.max_width - len(count) - len(facts) - 3
        if width < NARROWEST_BAR:
            yield Text(f"{count}  {facts}", overflow="ellipsis", no_wrap=True)
            return
        row = Table.grid(padding=(0, 1))
        row.add_row(count, ProgressBar(self.total_steps, step, width=width), " " + facts)
        yield row


class Lines:
    """Prints what is said, and shows no steps: for several runs at once."""

    total_steps = start_step = 0

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return

    def update(self, **event: object) -> None:
        """A step of one of the runs: nothing is shown."""

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=self._stream, flush=True)


class _Pace:
    """Seconds a step by the last ten minutes, from the first step on, which waits for workers and warms caches up."""

    def __init__(self) -> None:
        self._reached: deque[tuple[float, int]] = deque()

    def reach(self, step: int, now: float) -> None:
        # Steps that are done again after a failure are no progress: begin anew there.
        if self._reached and step <= self._reached[-1][1]:
            self._reached.clear()
        self._reached.append((now, step))
        while len(self._reached) > 2 and self._reached[1][0] < now - WINDOW_SECONDS:
            self._reached.popleft()

    def seconds_for(self, steps: int) -> float | None:
        """Time that many steps will take; None before there are two steps to tell by."""
        (first_time, first_step), (last_time, last_step) = self._reached[0], self._reached[-1]
        if last_step <= first_step:
            return None
        return steps * (last_time - first_time) / (last_step - first_step)


def duration(seconds: float) -> str:
    """A length of time in its two largest units: 45s, 1m20s, 2h05m, 3d04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
