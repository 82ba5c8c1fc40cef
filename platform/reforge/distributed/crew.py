"""The processes that train a trial: the trial's own actor alone, or workers in the trial's placement group.

The workers of a crew, their process group and what they have loaded stay from trial to trial.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reforge.distributed.meeting import Meeting, join, open_meeting
from reforge.runs.trial import TrialTask
from reforge.runs.trial_process import Advance, TrialProcess, Trouble

# How long the others may still take once one of them is in trouble: they may wait for it in a collective.
_GRACE_SECONDS = 10.0
_JOIN_TIMEOUT = timedelta(minutes=2)


@dataclass(frozen=True)
class CrewShape:
    """How many processes train a trial, what each gets, and the driver's working directory."""

    num_workers: int
    cpus: int
    gpus: float
    cwd: str


class Crew(Protocol):
    """One or several processes as one."""

    def begin(self, task: TrialTask) -> None:
        """Take on a trial."""

    def advance(self) -> Advance:
        """Train until there is something to judge."""

    def leave(self) -> None:
        """End the processes."""


def hire(shape: CrewShape) -> Crew:
    """The crew of a trial, in the trial's own actor."""
    return Alone(shape) if shape.num_workers == 1 else Together(shape)


class Alone(TrialProcess):
    """The actor of the trial itself."""

    def __init__(self, shape: CrewShape) -> None:
        super().__init__(shape.cwd, shape.cpus, shape.gpus)

    def leave(self) -> None:
        """The actor goes on to its end."""
        self.end()


class Together:
    """Workers that train data-parallel; anew where one of them has died or is stuck."""

    def __init__(self, shape: CrewShape) -> None:
        self._shape = shape
        self._workers: list[Any] = []
        self._task: TrialTask | None = None  # that the workers have not begun

    def begin(self, task: TrialTask) -> None:
        self._task = task

    def advance(self) -> Advance:
        try:
            self._ready()
        except RayError as error:
            self.leave()
            return Trouble("died", f"the workers do not start: {_first_line(error)}")
        return self._advance()

    def _ready(self) -> None:
        if self._task is None:
            return
        if self._workers:
            try:
                self._begin(self._task)
                return
            except RayError:  # one died since the trial before
                self.leave()
        self._workers = _start(self._shape)
        self._begin(self._task)

    def _begin(self, task: TrialTask) -> None:
        ray.get([worker.begin.remote(task) for worker in self._workers])
        self._task = None

    def _advance(self) -> Advance:
        calls = [worker.advance.remote() for worker in self._workers]
        answers: list[Advance] = []
        waiting = list(calls)
        while waiting:
            timeout = _GRACE_SECONDS if any(isinstance(answer, Trouble) for answer in answers) else None
            done, waiting = ray.wait(waiting, num_returns=1, timeout=timeout)
            if not done:
                break  # stuck in a collective that the one in trouble will never join
            answers.append(_answer(done[0]))
        troubles = [answer for answer in answers if isinstance(answer, Trouble)]
        if not troubles:
            first: Advance = ray.get(calls[0])
            return first
        if waiting or len({trouble.kind for trouble in troubles}) > 1 or len(troubles) < len(calls):
            self.leave()
        return min(troubles, key=lambda trouble: _ORDER.index(trouble.kind))

    def leave(self) -> None:
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []


# Of several troubles, the first of these is the cause of the others.
_ORDER = ("out_of_memory", "died", "diverged", "stopped", "refused", "raised")


def _answer(call: Any) -> Advance:
    try:
        answer: Advance = ray.get(call)
    except RayError as error:
        return Trouble("died", f"a worker's process died: {_first_line(error)}")
    return answer


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _start(shape: CrewShape) -> list[Any]:
    """A worker in each bundle of the trial's placement group, joined to one process group."""
    group = get_current_placement_group()
    assert group is not None, "a trial of several workers has a placement group"
    workers = [
        _Worker.options(  # type: ignore[attr-defined]
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        ).remote(shape)
        for rank in range(shape.num_workers)
    ]
    nodes = ray.get([worker.node.remote() for worker in workers])
    meeting = ray.get(workers[0].open_meeting.remote())
    backend = "nccl" if shape.gpus else "gloo"
    ray.get(
        [
            worker.join.remote(rank, shape.num_workers, nodes.count(nodes[rank]), meeting, backend)
            for rank, worker in enumerate(workers)
        ]
    )
    return workers


@ray.remote
class _Worker(TrialProcess):
    """One of several processes."""

    def __init__(self, shape: CrewShape) -> None:
        super().__init__(shape.cwd, shape.cpus, shape.gpus)

    def node(self) -> str:
        """Where it runs."""
        return str(ray.get_runtime_context().get_node_id())

    def open_meeting(self) -> Meeting:
        """Where the others can meet it."""
        return open_meeting()

    def join(self, rank: int, size: int, local_size: int, meeting: Meeting, backend: str) -> None:
        """Meet the others."""
        os.environ["LOCAL_WORLD_SIZE"] = str(local_size)
        join(meeting, backend, rank, size, _JOIN_TIMEOUT)


def bundles(shape: CrewShape) -> Sequence[dict[str, float]]:
    """The placement group of a trial; its own actor takes nothing beside those of its workers."""
    each = {"CPU": float(shape.cpus), **({"GPU": float(shape.gpus)} if shape.gpus else {})}
    return [each] if shape.num_workers == 1 else [{}, *(each for _ in range(shape.num_workers))]
