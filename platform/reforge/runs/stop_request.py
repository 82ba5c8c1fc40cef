"""How a run that trains is asked to stop: by a file named `stop` in its folder, which anyone may make.

    whoever gets the signal --runs/NAME/stop--> the first process, between two steps --all processes--> checkpoint, end

A file reaches workers on other nodes as the checkpoints do, and outlives whoever asked.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reforge.spec import UserError

NAME = "stop"


class Stopped(UserError):
    """The run was asked to stop, and has: everything up to its last step is in a checkpoint."""


class Leaving(Exception):
    """These processes have to go, and stopped as above; the run is to be gone on with by others."""


@dataclass(frozen=True)
class StopRequest:
    """The request to the run in `folder`."""

    folder: Path

    @property
    def file(self) -> Path:
        """That it lies in."""
        return self.folder / NAME

    def make(self) -> bool:
        """Ask; whether there is a run to ask."""
        try:
            self.file.touch()
        except OSError:
            return False
        return True

    def is_made(self) -> bool:
        """Whether the run has been asked."""
        return self.file.exists()

    def clear(self) -> None:
        """Forget it: the run has stopped, or starts anew."""
        with suppress(NotADirectoryError):  # said where the run begins
            self.file.unlink(missing_ok=True)
