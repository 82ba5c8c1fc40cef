"""How the tasks of a preparation are run: one after the other in this process, or by whoever brings an executor."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[int, int], None]  # takes documents and bytes of text done since the last call


class Executor(Protocol):
    """Runs `function(task, tick)` for every task, anywhere and in any order; yields index and result as they end.

    A task may be run again where its process died: functions leave complete results or none.
    """

    def __call__(self, function: Callable[[T, Tick], R], tasks: Sequence[T], tick: Tick) -> Iterator[tuple[int, R]]: ...


def in_process(function: Callable[[T, Tick], R], tasks: Sequence[T], tick: Tick) -> Iterator[tuple[int, R]]:
    """Run the tasks here, in their order."""
    for index, task in enumerate(tasks):
        yield index, function(task, tick)
