"""Ctrl-C, SIGTERM (`ray job stop`) and a node that is about to go: training ends its step and is kept.

first signal  --> every run that trains here is asked to stop --> checkpoint --> exit code 130
second signal --> ends at once
"""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from reforge.distributed.arguments import say
from reforge.distributed.leaving import watching
from reforge.runs.stop_request import StopRequest

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Asking:
    """Asks the runs in `folders()` to stop, at the first signal; a second one raises KeyboardInterrupt."""

    def __init__(self, folders: Callable[[], Iterable[Path]]) -> None:
        self.folders, self.has_asked = folders, False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        if self.has_asked or not self.ask():
            raise KeyboardInterrupt
        self.has_asked = True
        say("stopping at the end of this step, with a checkpoint; once more stops at once")

    def on_notice(self) -> None:
        """This node is about to be taken away."""
        say("this node is about to go: stopping at the end of this step, with a checkpoint")
        self.ask()

    def ask(self) -> bool:
        """Ask every run; whether there is any."""
        return sum([StopRequest(folder).make() for folder in self.folders()]) > 0


@contextmanager
def stoppable(folders: Callable[[], Iterable[Path]]) -> Iterator[Asking]:
    """As long as the context lasts, a signal asks the runs in `folders()` to stop; where there is none, it ends here.

    Notice to this node asks them too: whoever drives them goes with it. Outside the main thread, where no signal
    arrives, nothing changes.
    """
    asking = Asking(folders)
    if threading.current_thread() is not threading.main_thread():
        yield asking
        return
    for folder in folders():
        StopRequest(folder).clear()  # of a driver that died before its workers read it
    before = {number: signal.signal(number, asking.on_signal) for number in SIGNALS}
    try:
        with watching(asking.on_notice):
            yield asking
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` beside the main thread, which stays free for signals: what it calls takes them over otherwise.

    A signal that raises here leaves the thread to end with the process.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True, name="reforge-work")
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.2)
    if "error" in outcome:
        raise outcome["error"]
    result: T = outcome["result"]
    return result
