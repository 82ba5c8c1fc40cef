"""How the command lines that use a finished run read their words, and how they end.

Answers go to standard output, everything else to standard error. Exit codes: 0 done, 2 something the user can mend (one
message, no traceback), 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from reforge.spec import UserError

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every job does."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError with the message."""
        raise UserError(message)


def ended(work: Callable[[], None]) -> int:
    """Run `work`; the process's exit code."""
    try:
        work()
        sys.stdout.flush()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the text has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes nowhere
    return 0


def say(line: str) -> None:
    """Print a line that is no answer to standard error."""
    print(line, file=sys.stderr, flush=True)
