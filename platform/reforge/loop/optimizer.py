"""AdamW with decoupled weight decay (Loshchilov & Hutter 2019) and the learning rate as a function of the step."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from reforge.models import Backbone, parameter_depths
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
    """Linear warm-up, then decay to `final_lr_fraction` of the peak at the last step.

    warmup_steps: steps of the warm-up; where it is 0, warmup_fraction of all steps are
    """

    kind: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    final_lr_fraction: float = Field(0.0, ge=0, le=1)

    def lr_factor(self, step: int, max_steps: int) -> float:
        """Factor on the peak learning rate for the update that makes `step` steps complete; 1 <= step <= max_steps."""
        warmup_steps = self.warmup_steps or int(self.warmup_fraction * max_steps)
        if step <= warmup_steps:
            return step / warmup_steps
        # The last update still learns: with decay to zero its factor would be 0 were it counted from step itself.
        progress = (step - 1 - warmup_steps) / max(1, max_steps - warmup_steps)
        return self.final_lr_fraction + (1 - self.final_lr_fraction) * DECAYS[self.kind](progress)


class OptimizerOptions(Part):
    """AdamW. `weight_decay` acts on matrices only: not on biases, norms, scalars or axial position embeddings.

    lr: the peak learning rate
    head_lr: that of what is not in the backbone (output layers, a task's head, ELECTRA's generator); null: lr
    layer_decay: learning rates fall by this factor from each layer of the backbone to the one below it: depth k of
        K (models/depth.py) has lr x layer_decay^(K - k), as ELECTRA (Clark et al. 2020) and BEiT are fine-tuned
    """

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(5e-4, gt=0)
    head_lr: float | None = Field(None, gt=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
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
        """The optimizer of all trainable parameters of `model`; each group's rate is `lr_scale` of `lr_at`."""
        head = 1.0 if self.head_lr is None else self.head_lr / self.lr
        scales = self._backbone_scales(model)
        by_scale: dict[float, list[nn.Parameter]] = {}
        for parameter in model.parameters():
            if parameter.requires_grad:
                by_scale.setdefault(scales.get(parameter, head), []).append(parameter)
        groups = [group for scale, parameters in by_scale.items() for group in self._groups(parameters, scale)]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def _groups(self, parameters: list[nn.Parameter], lr_scale: float) -> list[dict[str, Any]]:
        matrices, others = ([p for p in parameters if (p.ndim == 2) == is_matrix] for is_matrix in (True, False))
        return [
            {"params": matrices, "weight_decay": self.weight_decay, "lr_scale": lr_scale},
            {"params": others, "weight_decay": 0.0, "lr_scale": lr_scale},
        ]

    def _backbone_scales(self, model: nn.Module) -> dict[nn.Parameter, float]:
        """The factor on `lr` of each parameter of `model.backbone`; none where there is no backbone of that name."""
        backbone = dict(model.named_children()).get("backbone")
        if not isinstance(backbone, Backbone):
            return {}
        depths, top = parameter_depths(backbone), len(backbone.layer_modules()) + 1
        return {p: self.layer_decay ** (top - depths[name]) for name, p in backbone.named_parameters()}

    def lr_at(self, step: int, max_steps: int) -> float:
        """Learning rate of the update that makes `step` steps complete."""
        return self.lr * self.schedule.lr_factor(step, max_steps)
