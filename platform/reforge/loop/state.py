"""All of the loop's state in one object; what a checkpoint holds and nothing that training depends on beside it."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from reforge.objectives import Learner


@dataclass(frozen=True)
class Best:
    """The best validation figure so far and the step it was reached at."""

    metric: str
    value: float
    step: int


@dataclass
class LoopState:
    """Everything that a step reads and changes.

    The learning rate, the position in the data and the random state of every rank are functions of (`seed`, `step`,
    rank): they need no storage, cannot drift, and stay defined when the number of workers changes.
    """

    model: Learner
    optimizer: torch.optim.Optimizer
    seed: int
    data_fingerprint: str
    step: int = 0
    tokens_seen: int = 0
    best: Best | None = None

    def counters(self) -> dict[str, Any]:
        """The state beside the tensors, as JSON holds it."""
        best = None if self.best is None else [self.best.metric, self.best.value, self.best.step]
        return {
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "best": best,
            "seed": self.seed,
            "data_fingerprint": self.data_fingerprint,
        }

    def restore_counters(self, counters: dict[str, Any]) -> None:
        """Take over what `counters` gave."""
        self.step = counters["step"]
        self.tokens_seen = counters["tokens_seen"]
        self.best = None if counters["best"] is None else Best(*counters["best"])


def seed_everything(seed: int, purpose: str, *place: int) -> None:
    """Set torch's random state, on every device, to a function of (seed, purpose, place).

    `place` is (step, rank) in training: the random state of every rank at every step is known without storing it.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{place}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)
