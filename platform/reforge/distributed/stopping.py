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
from reforge.runs.stop_request import StopRequest

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(folders: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """As long as the context lasts, a signal asks the runs in `folders()` to stop; where there is none, it ends here.

    A second signal raises KeyboardInterrupt. Outside the main thread, where no signal arrives, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for folder in folders():
        StopRequest(folder).clear()  # of a driver that died before its workers read it
    was_asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal was_asked
        # Not any(): every run is asked.
        if was_asked or not sum([StopRequest(folder).make() for folder in folders()]):
            raise KeyboardInterrupt
        was_asked = True
        say("stopping at the end of this step, with a checkpoint; once more stops at once")

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
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
