"""How a run that trains is asked to stop: by a file named `stop` in its folder, which anyone may make.

    whoever gets the signal --runs/NAME/stop--> the first process, between two steps --all processes--> checkpoint, end

A file reaches workers on other nodes as the checkpoints do, and outlives whoever asked. Of a run in a store the first
process looks for it there (runs/lease.py) and puts it into its own folder.
"""

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reforge.corpora.place import is_remote, remote_errors
from reforge.runs.store import LOCK, STOP, Store
from reforge.spec import UserError

# How long whoever asks waits for a store that does not answer.
ASKING_SECONDS = 10.0


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
        return self.folder / STOP

    def make(self) -> bool:
        """Ask; whether there is a run to ask."""
        if is_remote(self.folder):
            return self._make_there()
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
        if is_remote(self.folder):
            with remote_errors(self.folder):
                Store(self.folder).remove([STOP])
            return
        with suppress(NotADirectoryError):  # said where the run begins
            self.file.unlink(missing_ok=True)

    def _make_there(self) -> bool:
        done: list[bool] = []

        def ask() -> None:
            store = Store(self.folder)
            with suppress(Exception):  # of the store's own sorts: a run that cannot be asked is none to ask
                if store.read(LOCK) is not None:
                    store.write(STOP, b"stop")
                    done.append(True)

        asking = threading.Thread(target=ask, daemon=True)  # it may be a signal that asks: nothing may hang here
        asking.start()
        asking.join(ASKING_SECONDS)
        return bool(done)
