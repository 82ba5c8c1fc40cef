"""What is drawn anew in place, where there is a terminal to draw it in."""

import sys
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live


def live(view: RenderableType, stream: TextIO) -> Live | None:
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
