"""What Ray Train's controller does beside its own work: it says why training waits, and ends a step before a resize.

These run in the controller, an actor on the driver's node.
"""

import time
from contextlib import suppress
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import (
    ReschedulingState,
    ResizingState,
    RestartingState,
    SchedulingState,
    TrainControllerState,
)
from ray.train.v2._internal.execution.scaling_policy import ResizeDecision
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.exceptions import TrainingFailedError

from reforge.distributed.leaving import leave

# A step and a checkpoint have to fit in; then the workers end wherever they are, and steps are made again.
STEP_SECONDS = 120.0


class StepsEndFirst(ControllerCallback, WorkerGroupCallback):  # type: ignore[misc]
    """Lets the workers end their step and keep a checkpoint before Ray Train forms another group of them."""

    def __init__(self) -> None:
        self.group: WorkerGroup | None = None

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        self.group = worker_group

    def after_worker_group_shutdown(self, worker_group_context: Any) -> None:
        self.group = None

    def after_controller_state_update(
        self, previous_state: TrainControllerState, current_state: TrainControllerState
    ) -> None:
        if self.group is None or not isinstance(current_state, ResizingState):
            return  # a group that failed is replaced as well, and cannot be asked
        with suppress(RayError):  # a worker that is lost meanwhile is missed by the new group in any case
            self.group.execute(leave)
        deadline = time.monotonic() + STEP_SECONDS
        while not self.group.poll_status(timeout=1).finished and time.monotonic() < deadline:
            time.sleep(0.1)


class Announcements(ControllerCallback):  # type: ignore[misc]
    """Tells the driver's board that a worker was lost, that there is no room, and how many workers train.

    most: how many workers there may be
    """

    def __init__(self, board: ActorHandle, most: int) -> None:
        self.board, self.most, self.has_waited = board, most, False

    def after_controller_state_update(
        self, previous_state: TrainControllerState, current_state: TrainControllerState
    ) -> None:
        if isinstance(current_state, RestartingState):
            self.say(f"a worker was lost ({reason_of(current_state.training_failed_error)}): starting again")
        elif isinstance(current_state, ReschedulingState) and not self.has_waited:
            self.has_waited = True
            self.say("waiting for room in the cluster: `ray status` shows which nodes are there")
        elif isinstance(current_state, SchedulingState):
            decision = current_state.scaling_decision
            if isinstance(decision, ResizeDecision) and decision.num_workers < self.most:
                self.say(f"training on {decision.num_workers} of at most {self.most} workers")

    def say(self, line: str) -> None:
        self.board.put.remote({"say": line})


def reason_of(error: TrainingFailedError) -> str:
    """A few words of what ended a group: the first worker whose process died, else whoever failed."""
    failures = getattr(error, "worker_failures", None)
    if not failures:  # Ray Train's controller failed, and no worker
        return type(error).__name__
    rank, failure = min(failures.items(), key=lambda found: ("Died" not in type(found[1]).__name__, found[0]))
    return f"rank {rank}: {type(failure).__name__}"
