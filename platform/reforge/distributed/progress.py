"""Progress from the first worker to the driver's terminal.

    worker --ProgressSender--> Board (an actor) <--polls-- ProgressReader (a thread of the driver) --> bar or lines

Ray Train's own reports are a barrier for all workers and are collected every two seconds; this path holds up no one.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reforge.distributed.board import Board
from reforge.tracking import Lines, Progress

SEND_EVERY_SECONDS = 0.2
POLL_EVERY_SECONDS = 0.25


class ProgressSender:
    """The observer that the first worker calls; sends steps at most every 0.2 s and the last, all else at once.

    prefix: stands before every line, where several runs share the board; neither their steps nor notes are sent
    """

    def __init__(self, board: ActorHandle, prefix: str = "") -> None:
        self.board = board
        self.prefix = prefix
        self.last_step: int | None = None
        self.last_sent = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Send `event` without waiting."""
        self.last_step = event.get("total", self.last_step)
        if self.prefix:
            event = {"say": self.prefix + event["say"]} if "say" in event else {}
            if not event:
                return
        if "step" in event:
            too_soon = time.monotonic() - self.last_sent < SEND_EVERY_SECONDS
            if too_soon and event["step"] != self.last_step:
                return
            self.last_sent = time.monotonic()
        self.board.put.remote(dict(event))


class ProgressReader:
    """Shows what the board gets, until the `with` block ends."""

    def __init__(self, progress: Progress | Lines) -> None:
        # On the driver's node, which the job cannot do without: any other may die, and the board with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.board = Board.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        self.progress = progress
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._poll, daemon=True, name="reforge-progress")

    def __enter__(self) -> "ProgressReader":
        self.progress.__enter__()
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self.thread.join()
        with suppress(RayError):  # of a cluster that is gone, which the driver is about to say
            self._show()
        self.progress.__exit__(None, None, None)
        ray.kill(self.board)

    def _poll(self) -> None:
        while not self.stopped.wait(POLL_EVERY_SECONDS):
            with suppress(RayError):
                self._show()

    def _show(self) -> None:
        for event in ray.get(self.board.take.remote()):
            if "say" in event or "note" in event:
                self.progress.say(event.get("say") or event["note"])
            elif "total" in event:
                self.progress.total_steps = event["total"]
            elif "start" in event:
                self.progress.start_step = event["start"]
            else:
                self.progress.update(**event)
