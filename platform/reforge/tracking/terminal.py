"""What is drawn anew in place where there is a terminal to draw it in, and told in lines anywhere else."""

import sys
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live


class View(ABC):
    """Shows itself while the `with` block lasts, and leaves the last state standing after it.

    stream: None is this process's stderr
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = _live(self, self._stream)

    @abstractmethod
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The view as wide as the terminal is now; called by a thread of the terminal's own."""

    @abstractmethod
    def _end_lines(self) -> None:
        """The last lines, where there is no terminal."""

    def __enter__(self) -> Self:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)
        else:
            self._end_lines()

    def say(self, line: str) -> None:
        """Print a line above the view, or between the lines of a log."""
        if self._live:
            self._live.console.print(line, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)


def _live(view: RenderableType, stream: TextIO) -> Live | None:
    """Draws `view` in `stream` four times a second, in a thread of its own; None where that is no terminal that can.

    A shell's redirection, CI and a dumb terminal are none.
    """
    if not stream.isatty():
        return None
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    # Lines that Ray or a warning prints meanwhile go above the view, unless they are on their way into a file.
    return Live(
        view,
        console=console,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )
