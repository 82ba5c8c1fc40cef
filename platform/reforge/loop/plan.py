"""What the loop needs to know beside the state: how far, how much at once, on what it is judged.

The spec's own options say it in the words of the job: tokens and steps for a corpus, examples and epochs for a task.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

from reforge.batches import Samples
from reforge.loop.precision import Precision
from reforge.loop.state import LoopState
from reforge.loop.world import World


class Plan(Protocol):
    """How training goes.

    global_batch: what goes into a step, in the data's own measure
    micro_batch_tokens: what one worker puts through the model at once, at most
    patience: after how many evaluations without a better figure training stops; None: never before `max_steps`
    stop_at_step: training ends there though the learning rate's schedule goes on to `max_steps`; None: it does not
    """

    @property
    def max_steps(self) -> int: ...

    @property
    def global_batch(self) -> int: ...

    @property
    def micro_batch_tokens(self) -> int: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def eval_every_steps(self) -> int: ...

    @property
    def patience(self) -> int | None: ...

    @property
    def stop_at_step(self) -> int | None: ...


@dataclass(frozen=True)
class Goal:
    """The validation figure that tells which weights are the best."""

    metric: str = "loss"
    mode: Literal["min", "max"] = "min"

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`; a value that is no number beats nothing."""
        return value < than if self.mode == "min" else value > than


LOWEST_LOSS = Goal()


class TrainingData(ABC):
    """What the loop trains on, and how it is judged meanwhile."""

    train: Samples
    goal: Goal

    @abstractmethod
    def check(self, state: LoopState) -> None:
        """Raise UserError where the data cannot give what the model needs."""

    @abstractmethod
    def validate(self, state: LoopState, plan: Plan, world: World) -> dict[str, float]:
        """The validation figures of `state` as it stands; every rank must call it."""
