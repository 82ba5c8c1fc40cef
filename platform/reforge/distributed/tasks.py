"""The tasks of a preparation on Ray: one CPU each, on any node, retried alone where their process dies.

    driver: RayExecutor --task--> worker: function(task, tick) --result--> driver
                                  '- tick --> Counter (an actor) <--polls-- driver: tick

Kept apart from the rest of this folder, because what a worker imports before its first task is time that users wait.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from reforge.batches.executor import R, T, Tick, in_process
from reforge.spec import UserError

_SEND_EVERY_SECONDS = 0.5
_POLL_EVERY_SECONDS = 0.5
_MAX_RETRIES = 5
# Enough that no CPU waits for the driver, few enough that an error stops the work soon.
_TASKS_A_CPU = 2


class RayExecutor:
    """Runs tasks on the CPUs of the cluster that `start` connects to; a single task is run in this process.

    num_cpus: how many tasks may run at once
    """

    def __init__(self, num_cpus: int, start: Callable[[], None]) -> None:
        self.num_cpus, self._start = num_cpus, start
        self._counter: ActorHandle | None = None

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._counter is not None:
            ray.kill(self._counter)

    def __call__(self, function: Callable[[T, Tick], R], tasks: Sequence[T], tick: Tick) -> Iterator[tuple[int, R]]:
        """Run all tasks; yields index and result as they end."""
        if self.num_cpus == 1 or len(tasks) <= 1:
            yield from in_process(function, tasks, tick)
            return
        if self._counter is None:
            self._start()
            self._counter = _Counter.remote()  # type: ignore[attr-defined]
        yield from self._run(function, tasks, tick, self._counter)

    def _run(
        self, function: Callable[[T, Tick], R], tasks: Sequence[T], tick: Tick, counter: ActorHandle
    ) -> Iterator[tuple[int, R]]:
        running: dict[ray.ObjectRef, int] = {}
        waiting = iter(enumerate(tasks))
        shared, folder, counted = ray.put(function), str(Path.cwd()), counter.take.remote()
        try:
            while True:
                for index, task in _first(waiting, _TASKS_A_CPU * self.num_cpus - len(running)):
                    running[_run_task.remote(shared, task, counter, folder)] = index
                if not running:
                    break
                done, _ = ray.wait(list(running), timeout=_POLL_EVERY_SECONDS)
                if ray.wait([counted], timeout=0)[0]:
                    tick(*ray.get(counted))
                    counted = counter.take.remote()
                for reference in done:
                    yield running.pop(reference), _result(reference)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _first(stream: Iterator[Any], count: int) -> Iterator[Any]:
    for _, item in zip(range(count), stream, strict=False):
        yield item


def _result(reference: ray.ObjectRef) -> Any:
    """What a task gave; what the user can mend is raised as the task raised it, without Ray's traceback."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError | OSError):
            raise error.cause from None
        raise


@ray.remote(num_cpus=1, max_retries=_MAX_RETRIES)  # type: ignore[untyped-decorator]
def _run_task(function: Callable[[Any, Tick], Any], task: Any, counter: ActorHandle, folder: str) -> Any:
    # Each task has one CPU: a thread pool of the tokenizers library in every one would only get in the others' way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    with suppress(OSError):  # on another node: the paths that are left are absolute, or of the job's working directory
        os.chdir(folder)
    sender = _Sender(counter)
    try:
        return function(task, sender)
    finally:
        sender.flush()


class _Sender:
    """The tick of a task: adds up what it hears and sends it now and then, without waiting."""

    def __init__(self, counter: ActorHandle) -> None:
        self._counter = counter
        self._documents = self._bytes = 0
        self._last_sent = time.monotonic()

    def __call__(self, documents: int, num_bytes: int) -> None:
        self._documents += documents
        self._bytes += num_bytes
        if time.monotonic() - self._last_sent >= _SEND_EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._counter.add.remote(self._documents, self._bytes)
        self._documents = self._bytes = 0
        self._last_sent = time.monotonic()


@ray.remote(num_cpus=0)
class _Counter:
    """Adds up what the tasks have done until the driver takes it."""

    def __init__(self) -> None:
        self.documents = self.num_bytes = 0

    def add(self, documents: int, num_bytes: int) -> None:
        """Take note of work done."""
        self.documents += documents
        self.num_bytes += num_bytes

    def take(self) -> tuple[int, int]:
        """Documents and bytes since the last call."""
        taken = self.documents, self.num_bytes
        self.documents = self.num_bytes = 0
        return taken
