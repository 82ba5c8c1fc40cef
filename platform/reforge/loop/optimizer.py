"""AdamW with decoupled weight decay (Loshchilov & Hutter 2019) and the learning rate as a function of the step."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from reforge.spec import Part, Problem


def _linear(progress: float) -> float:
    return 1 - progress


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _constant(progress: float) -> float:
    return 1.0


# Share of the way from the final to the peak learning rate, by the share of the decay that has passed.
DECAYS: dict[str, Callable[[float], float]] = {"linear": _linear, "cosine": _cosine, "constant": _constant}


class ScheduleOptions(Part):
    """Linear warm-up over `warmup_steps`, then decay to `final_lr_fraction` of the peak at the last step."""

    kind: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    final_lr_fraction: float = Field(0.0, ge=0, le=1)

    def lr_factor(self, step: int, max_steps: int) -> float:
        """Factor on the peak learning rate for the update that makes `step` steps complete; 1 <= step <= max_steps."""
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        # The last update still learns: with decay to zero its factor would be 0 were it counted from step itself.
        progress = (step - 1 - self.warmup_steps) / max(1, max_steps - self.warmup_steps)
        return self.final_lr_fraction + (1 - self.final_lr_fraction) * DECAYS[self.kind](progress)


class OptimizerOptions(Part):
    """AdamW. `weight_decay` acts on matrices only: not on biases, norms, scalars or axial position embeddings."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(5e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    schedule: ScheduleOptions = ScheduleOptions()

    def problems(self) -> Iterator[Problem]:
        """Both betas are averages' decay rates."""
        if not all(0 <= beta < 1 for beta in self.betas):
            yield Problem(("betas",), "each must be at least 0 and below 1", list(self.betas))

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """The optimizer of all trainable parameters of `model`."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim == 2], "weight_decay": self.weight_decay, "lr_scale": 1.0},
            {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0, "lr_scale": 1.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def lr_at(self, step: int, max_steps: int) -> float:
        """Learning rate of the update that makes `step` steps complete."""
        return self.lr * self.schedule.lr_factor(step, max_steps)
