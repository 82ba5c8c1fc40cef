"""A model whose weights, gradients and optimizer are spread over the processes (`scale.strategy: fsdp`).

    whole weights --shard--> a slice of each tensor on every process --forward--> whole again --backward-->
        gradients --reduce-scatter--> slices --> the optimizer updates its slices

ZeRO (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054) as torch's `fully_shard` has it. A layer that every
pass calls once as a module is whole only while it runs (ZeRO-3). Where layers are run in another way (a backward pass
of their own, dropped ones, shared weights) the model is gathered once a pass, and gradients and optimizer are what is
spread (ZeRO-2).

torch's modules for it take a second or more to be imported: only what shards does.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from reforge.loop.world import World
from reforge.models import Backbone
from reforge.objectives import Inputs, Learner

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def shard(model: Learner, world: World) -> None:
    """Spread the parameters of `model` over the processes, in place; one process keeps them as they are.

    To be called where the model is whole on every process, before the optimizer is made. Slices go to the world's
    device, a layer at a time. Names of parameters stay; only a forward pass of the model, or `whole`, has them whole.
    """
    if world.size == 1:
        return
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    assert dist.group.WORLD is not None
    # Layers add what their halves give to a residual stream, out of place: views are safe there.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    mesh = DeviceMesh.from_group(dist.group.WORLD, world.device.type)
    for layer in separate_layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    root = fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # A layer may be dropped on one process and not on another: they must add up the same tensors.
    root.set_reduce_scatter_unused_params(True)


def separate_layers(model: nn.Module) -> list[list[nn.Module]]:
    """The layers of all backbones that can be whole while they run and in slices else."""
    backbones = [part for part in model.modules() if isinstance(part, Backbone)]
    return [layer for backbone in backbones for layer in backbone.separate_layers()]


def is_sharded(module: nn.Module) -> bool:
    """Whether the processes hold slices of the parameters, of a model or a layer of it."""
    return hasattr(module, "unshard")


def notes(model: nn.Module) -> list[str]:
    """What is spread over the processes, and why not more; nothing where nothing is."""
    if not is_sharded(model):
        return []
    if num_layers := len(separate_layers(model)):
        return [f"strategy: fsdp, weights too: each of {num_layers} layers is whole only while it runs (ZeRO-3)"]
    return [
        "strategy: fsdp, gradients and optimizer: the weights are whole from the forward pass to the end of the "
        "backward pass (ZeRO-2), as layers are reversible, dropped or tied"
    ]


def parts_of(model: nn.Module) -> list["FSDPModule"]:
    """The modules that are gathered by themselves, the model the first of them."""
    return [cast("FSDPModule", part) for part in model.modules() if is_sharded(part)]


@torch.no_grad()
def settle(model: nn.Module, inputs: Inputs) -> None:
    """Run a sharded model once, on every process: torch takes the module that runs first for the root."""
    model(**inputs.tensors)
    parts_of(model)[0].reset_iter_state()


def start_pass(model: nn.Module, is_last: bool) -> None:
    """Say before a forward and backward pass whether it is the last one of its step.

    Before that, a model that is gathered as a whole stays so and its gradients add up in place. With separate layers
    each pass has the gradients added up into slices: they are never all there.
    """
    root, *layers = parts_of(model)
    root.set_is_last_backward(is_last)
    if not layers:
        root.set_requires_gradient_sync(is_last)
        root.set_reshard_after_backward(is_last)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """A context in which each process has all weights, and may run any part of the model by itself.

    Every process must enter it, but for a model that is not sharded; weights must not be changed or saved in it.
    """
    parts = parts_of(model)
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for number, part in enumerate(parts):
            part.set_reshard_after_forward(number > 0, recurse=False)
        # Every process has run something else: what torch noted of it to gather ahead would have them wait for ever.
        for root in parts[:1]:
            root.reset_iter_state()


@torch.no_grad()
def clip_slices(model: nn.Module, max_norm: float, world: World) -> Tensor:
    """Scale the gradients of a sharded model so that their norm is at most `max_norm`; what it was before."""
    slices = [slice_of(p.grad) for p in model.parameters() if p.grad is not None]
    norm = world.sum(get_total_norm(slices).to(world.device).square()).sqrt()
    torch._foreach_mul_(slices, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def slice_of(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if is_slice(tensor) else tensor


def is_slice(tensor: Tensor) -> TypeGuard["DTensor"]:
    """Whether this process holds a slice of the tensor alone."""
    return hasattr(tensor, "full_tensor")


def gather(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """`tensors` with those that are sharded whole on the first process's CPU, on no other; every process must call it.

    One at a time: a device need not hold them all.
    """
    gathered = {}
    for name, tensor in tensors.items():
        whole_tensor = tensor.full_tensor() if is_slice(tensor) else tensor
        if whole_tensor is tensor:
            gathered[name] = tensor
        elif world.is_first:
            gathered[name] = whole_tensor.cpu()
    return gathered


def share_of(tensor: Tensor, like: Tensor) -> Tensor:
    """`tensor`, which every process has whole, as `like` is: on its device and, where that is a slice, this slice."""
    if not is_slice(like) or tensor.shape != like.shape:
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
