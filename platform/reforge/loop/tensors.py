"""The tensors of a model and its optimizer by name, whole: as files hold them, whoever holds a share of them.

Where a model is sharded (sharding.py) every process holds a slice of each tensor. Files know nothing of that: a run may
go on with another number of workers, or with none of it sharded.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reforge.loop.sharding import gather, share_of
from reforge.loop.state import LoopState
from reforge.loop.world import World
from reforge.spec import UserError

MOST_SHOWN = 20  # differences between a file and a model that a message lists


class StateTensors(NamedTuple):
    """The weights and the optimizer's tensors by name, and its other values as JSON holds them."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rest: dict[str, Any]


def state_tensors(state: LoopState, world: World) -> StateTensors:
    """What a checkpoint holds of `state`, whole on the first process; every process must call it.

    What is sharded is gathered onto the first one's CPU, a tensor at a time; the others have none of it.
    """
    tensors, rest = optimizer_tensors(state)
    return StateTensors(gather(named_tensors(state.model), world), gather(tensors, world), rest)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, each tensor once (reversible layers hold theirs under two names)."""
    tensors = dict(model.named_parameters())
    persistent = model.state_dict().keys()
    tensors |= {name: buffer for name, buffer in model.named_buffers() if name in persistent}  # type: ignore[misc]
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def load_tensors(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy `tensors` into `model`; every name and shape must match, or a UserError names those that do not."""
    ours = named_tensors(model)
    wrong = [f"{name}: in the file only" for name in sorted(tensors.keys() - ours.keys())]
    wrong += [f"{name}: in the model only" for name in sorted(ours.keys() - tensors.keys())]
    for name in sorted(ours.keys() & tensors.keys()):
        there, here = list(tensors[name].shape), list(ours[name].shape)
        if there != here:
            wrong.append(f"{name}: {there} in the file, {here} in the model")
    if wrong:
        more = [f"and {len(wrong) - MOST_SHOWN} more"] if len(wrong) > MOST_SHOWN else []
        shown = "\n".join(f"  {line}" for line in wrong[:MOST_SHOWN] + more)
        raise UserError(f"{source} is of another model, objective or size:\n{shown}")
    for name, tensor in tensors.items():
        ours[name].copy_(share_of(tensor, ours[name]))


def optimizer_tensors(state: LoopState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's tensors as `parameter/key`, and its other values as JSON holds them."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value.detach().contiguous()
            else:
                rest[f"{name}/{key}"] = value
    return tensors, rest


def restore_optimizer(state: LoopState, tensors: dict[str, Tensor], rest: dict[str, Any], source: Path) -> None:
    """Give the optimizer back what `optimizer_tensors` took; raises UserError where it is of another model."""
    by_name = dict(state.model.named_parameters())
    for path, value in {**tensors, **rest}.items():
        name, _, key = path.rpartition("/")
        parameter = by_name.get(name)
        if parameter is None:
            raise UserError(f"{source}: the optimizer's {path} is of no parameter of the model")
        if isinstance(value, Tensor) and value.shape not in (parameter.shape, ()):
            there, here = list(value.shape), list(parameter.shape)
            raise UserError(f"{source}: the optimizer's {path} is {there} in the file, its parameter {here}")
        if isinstance(value, Tensor):
            # Fused AdamW wants its step counter beside the parameter.
            value = share_of(value, parameter)
        state.optimizer.state[parameter][key] = value
