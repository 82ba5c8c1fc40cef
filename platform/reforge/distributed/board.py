"""Where progress waits for the driver. By itself, so that the actor's process imports nothing else."""

from collections.abc import Mapping
from typing import Any

import ray


@ray.remote(num_cpus=0)
class Board:
    """Keeps the newest step and the lines nobody has read yet."""

    def __init__(self) -> None:
        self.lines: list[Mapping[str, Any]] = []
        self.step: Mapping[str, Any] | None = None

    def put(self, event: Mapping[str, Any]) -> None:
        """Take an event."""
        if "step" in event:
            self.step = event
        else:
            self.lines.append(event)

    def take(self) -> list[Mapping[str, Any]]:
        """What came since the last call, lines first."""
        events = self.lines + ([self.step] if self.step else [])
        self.lines, self.step = [], None
        return events
