"""What the command lines of all job scripts have in common: their words, and how they end.

Exit codes: 0 done, 2 something the user can mend (one message, no traceback), 130 interrupted.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reforge.spec import UserError

INTERRUPTED = 130


def guarded(work: Callable[[], None], interrupted: str) -> int:
    """Run `work`; the exit code. interrupted: what to say of going on after Ctrl-C."""
    try:
        work()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    return 0


def spec_parser(description: str, default_spec: Path) -> argparse.ArgumentParser:
    """A parser that takes a spec and overrides as `words`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SPEC | key.path=value",
        help=f"a spec file (default: {default_spec.name}), then any number of overrides such as train.max_steps=200",
    )
    return parser


def spec_and_overrides(words: Sequence[str], default_spec: Path) -> tuple[Path, list[str]]:
    """The spec file and the overrides among the words of a command line."""
    specs = [word for word in words if "=" not in word]
    if len(specs) > 1:
        raise UserError(f"one spec at a time, got {', '.join(specs)} (an override is written key.path=value)")
    return Path(specs[0]) if specs else default_spec, [word for word in words if "=" in word]


def say(line: str) -> None:
    """Print a line of what goes on to standard error; results go to standard output."""
    print(line, file=sys.stderr, flush=True)
