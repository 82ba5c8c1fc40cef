"""The training loop as a generator of step reports.

    rows of the step --share--> Batch --split--> micro-batches --collate--> forward, backward --one all-reduce--> clip
        --> update --> report

Whoever drives it saves, logs and reports. The same spec gives the same global batches on any number of workers.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from reforge.batches import Batch, Rows
from reforge.loop.optimizer import OptimizerOptions
from reforge.loop.plan import Goal, Plan, TrainingData
from reforge.loop.precision import Precision, autocast
from reforge.loop.sharding import clip_slices, is_sharded, start_pass
from reforge.loop.sharding import settle as settle_slices
from reforge.loop.state import Best, LoopState, seed_everything
from reforge.loop.world import World
from reforge.models import Backbone
from reforge.objectives import Inputs, Learner
from reforge.spec import Part, UserError


class TrainOptions(Part):
    """The `train:` section of a job spec. `_tokens` count tokens of blocks, padding included.

    global_batch_tokens: a step takes as many blocks (rows of one length where data.batches is bucketed) as go into it
    micro_batch_tokens: what one worker puts through the model at once, at most; gradients of several micro-batches are
        added up to the global batch
    compile: run the layers' dense parts through torch.compile; auto does not: on a CPU it gained 1 to 3 % for half a
        minute of compiling, on a GPU it has not been measured
    eval_blocks: how many validation blocks are scored (null: all)
    stop_at_step: end there, though the learning rate's schedule goes on to max_steps; null: do not
    """

    max_steps: int = Field(20_000, ge=1)
    stop_at_step: int | None = Field(None, ge=1)
    global_batch_tokens: int = Field(65_536, ge=1)
    micro_batch_tokens: int = Field(8_192, ge=1)
    precision: Precision = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    eval_every_steps: int = Field(500, ge=1)
    eval_blocks: int | None = Field(256, ge=1)
    log_every_steps: int = Field(10, ge=1)
    checkpoint_every_steps: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    seed: int = Field(1, ge=0, lt=2**32)

    @property
    def global_batch(self) -> int:
        """What goes into a step: tokens."""
        return self.global_batch_tokens

    @property
    def patience(self) -> None:
        """Pre-training goes on to its last step."""
        return

    def micro_batch_blocks(self, block_tokens: int) -> int:
        """How many blocks of a length one worker puts through the model at once, at most."""
        return rows_at_once(self.micro_batch_tokens, block_tokens)


class TrainingDiverged(UserError):
    """The loss or the gradient is no longer a number; the update was not made."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did; the same on every rank but for `tokens_per_second`.

    `loss` is the weighted sum of `terms`, each in nats a target over the global batch. `valid` is set at the steps
    that evaluate, `is_last` after the last step, `is_stopped` after the one at which a process was asked to stop.
    """

    step: int
    epoch: float
    loss: float
    terms: dict[str, float]
    lr: float
    grad_norm: float
    tokens_seen: int
    tokens_per_second: float
    valid: dict[str, float] = field(default_factory=dict)
    is_best: bool = False
    is_last: bool = False
    is_stopped: bool = False


class Taken(NamedTuple):
    """What an update gave: the mean of each term of the loss, the gradient norm, whether a rank was asked to stop."""

    terms: dict[str, float]
    grad_norm: float
    is_stopped: bool


def train(
    state: LoopState,
    data: TrainingData,
    plan: Plan,
    optimizer_options: OptimizerOptions,
    world: World,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> Iterator[StepReport]:
    """Train `state` in place to the end of `plan`, one report a step; every rank must consume it in step.

    is_asked_to_stop: asked on every rank before each step; where one says yes, that step is the last of all
    Raises TrainingDiverged before an update that would ruin the weights, UserError where the data cannot give what the
    model needs.
    """
    data.check(state)
    model = wrap(state.model, world)
    state.model.train()
    settle(model, state, data, world)
    while not is_over(state, plan):
        started = time.perf_counter()
        rows = data.train.rows_at(state.seed, state.step, plan.global_batch)
        micro_inputs = inputs_of(rows, state, data, plan, world)
        lr = optimizer_options.lr_at(state.step + 1, plan.max_steps)
        seed_everything(state.seed, "train", state.step, world.rank)
        asked = is_asked_to_stop()
        taken = take_step(model, state, micro_inputs, lr, optimizer_options.max_grad_norm, plan, world, asked)
        state.step += 1
        state.tokens_seen += rows.num_tokens
        seconds = time.perf_counter() - started
        valid = {}
        if state.step % plan.eval_every_steps == 0 or state.step == last_step(plan):
            valid = data.validate(state, plan, world)
        is_best = note_best(state, valid, data.goal)
        yield StepReport(
            step=state.step,
            epoch=data.train.epoch_at(state.step, plan.global_batch),
            loss=weighted(taken.terms, state.model),
            terms=taken.terms,
            lr=lr,
            grad_norm=taken.grad_norm,
            tokens_seen=state.tokens_seen,
            tokens_per_second=rows.num_tokens / seconds,
            valid=valid,
            is_best=is_best,
            is_last=is_over(state, plan),
            is_stopped=taken.is_stopped,
        )
        if taken.is_stopped:
            return


def inputs_of(rows: Rows, state: LoopState, data: TrainingData, plan: Plan, world: World) -> list[Inputs]:
    """This process's share of a step's rows, as the model takes them: so many micro-batches on every process."""
    batch = data.train.read(rows.share(world.rank, world.size), state.seed, state.model.needs_partners)
    at_once = rows_at_once(plan.micro_batch_tokens, rows.row_tokens)
    num_micro = math.ceil(math.ceil(len(rows.samples) / world.size) / at_once)
    return [state.model.collate(part, state.seed) for part in split(batch, num_micro)]


def is_over(state: LoopState, plan: Plan) -> bool:
    """Whether there is nothing left to train: all steps made, or no better figure for too long."""
    if state.step >= last_step(plan):
        return True
    if plan.patience is None or state.best is None:
        return False
    return state.step - state.best.step >= plan.patience * plan.eval_every_steps


def last_step(plan: Plan) -> int:
    """The step after which training is over at the latest."""
    return plan.max_steps if plan.stop_at_step is None else min(plan.max_steps, plan.stop_at_step)


def rows_at_once(micro_batch_tokens: int, row_tokens: int) -> int:
    """How many rows of a length one worker puts through the model at once, at most."""
    return max(1, micro_batch_tokens // row_tokens)


def take_step(
    model: nn.Module,
    state: LoopState,
    micro_inputs: list[Inputs],
    lr: float,
    max_grad_norm: float,
    plan: Plan,
    world: World,
    is_asked: bool = False,
) -> Taken:
    """One update from a rank's micro-batches, with the figures of the global batch.

    A term is a mean over all its targets of the global batch, not over micro-batches or ranks, so neither their number
    nor their sizes change the gradient.
    """
    names = list(state.model.terms)
    counted = [[inputs.num_targets[name] for name in names] for inputs in micro_inputs]
    num_targets_K = world.sum(torch.tensor(counted, dtype=torch.float32, device=world.device).sum(0)).clamp(min=1)
    weights_K = torch.tensor([state.model.terms[name] for name in names], device=world.device)
    scale_K = weights_K * world.size / num_targets_K  # gradients are averaged over ranks: undo it
    loss_sums_K = torch.zeros(len(names), device=world.device)
    for number, inputs in enumerate(micro_inputs, start=1):
        with gradients_kept_local(model, number < len(micro_inputs)):
            with autocast(plan.precision, world.device):
                scores = model(**inputs.to(world.device).tensors)
            losses_K = torch.stack([scores.losses[name] for name in names])
            torch.autograd.backward((losses_K * scale_K).sum())
        loss_sums_K += losses_K.detach()
    if world.size > 1 and not isinstance(model, DistributedDataParallel) and not is_sharded(model):
        average_gradients(model, world)
    norm = clip_gradients(state.model, max_grad_norm, world)
    summed = world.sum(torch.cat([loss_sums_K, loss_sums_K.new_tensor([float(is_asked)])]))
    # The only wait for the device in a step: all figures at once.
    *means, grad_norm, num_asked = torch.cat([summed[:-1] / num_targets_K, norm[None], summed[-1:]]).tolist()
    terms = dict(zip(names, means, strict=True))
    loss = weighted(terms, state.model)
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        state.optimizer.zero_grad(set_to_none=True)
        raise TrainingDiverged(
            f"training diverged at step {state.step + 1}: loss {loss:g}, gradient norm {grad_norm:g}, learning rate "
            f"{lr:g}. The update was not made. Lower optimizer.lr or raise optimizer.schedule.warmup_steps."
        )
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return Taken(terms, grad_norm, num_asked > 0)


def weighted(terms: dict[str, float], model: Learner) -> float:
    """The loss that training lowers, from the means of its terms."""
    return sum(model.terms[name] * mean for name, mean in terms.items())


def wrap(model: Learner, world: World) -> nn.Module:
    """`model` as a data-parallel module, or itself where one process trains alone or the model is sharded.

    DistributedDataParallel wants every parameter's gradient exactly once; a model that cannot promise that (dropped
    layers, tied layers that are computed again) has its gradients averaged after the backward pass.
    """
    if world.size == 1 or is_sharded(model) or not has_regular_gradients(model):
        return model
    device_ids = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, forward_sync_buffers=False)


def settle(model: nn.Module, state: LoopState, data: TrainingData, world: World) -> None:
    """Let a model of several processes find its order by a pass of padding, before the first step.

    DDP lays its buckets out anew after the first backward pass, and the order in which three or more ranks add up
    depends on the layout: without this the first step after a resume would round differently from the same step of an
    undisturbed run.
    """
    if isinstance(model, DistributedDataParallel):
        sum(model(**inputs_of_nobody(state, data, world).tensors).losses.values()).backward()
        state.optimizer.zero_grad(set_to_none=True)
    elif is_sharded(model):
        settle_slices(model, inputs_of_nobody(state, data, world))


def inputs_of_nobody(state: LoopState, data: TrainingData, world: World) -> Inputs:
    """A row of padding, as the model takes it."""
    none = np.zeros(0, np.int64)
    nobody = Rows(none, none, data.train.block_tokens)
    nothing = blank(data.train.read(nobody, state.seed, state.model.needs_partners))
    return state.model.collate(nothing, state.seed).to(world.device)


def has_regular_gradients(model: Learner) -> bool:
    """Whether a backward pass gives every parameter its gradient exactly once."""
    return all(part.regular_gradients for part in model.modules() if isinstance(part, Backbone))


def average_gradients(model: nn.Module, world: World) -> None:
    """Make every gradient its mean over all processes; one that a process lacks counts as zero there."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    world.sum(flat).div_(world.size)
    for parameter, mean in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        parameter.grad = mean.view_as(parameter)


def clip_gradients(model: nn.Module, max_norm: float, world: World) -> Tensor:
    """Scale the gradients so that their norm is at most `max_norm`; what it was before."""
    if is_sharded(model):
        return clip_slices(model, max_norm, world)
    return nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def gradients_kept_local(model: nn.Module, keep: bool) -> contextlib.AbstractContextManager[object]:
    """A context in which a pass adds to the local gradients without the all-reduce, where that saves anything."""
    if is_sharded(model):
        start_pass(model, is_last=not keep)
    if keep and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return contextlib.nullcontext()


def split(batch: Batch, num_parts: int) -> list[Batch]:
    """`batch` in `num_parts` parts of nearly equal size.

    Every rank must run the same number of micro-steps: one with too few samples runs rows of padding in their place.
    """
    parts = []
    for places in np.array_split(np.arange(len(batch.samples)), num_parts):
        if len(places):
            parts.append(_map(batch, partial(np.take, indices=places, axis=0)))
        else:
            parts.append(blank(batch))
    return parts


def blank(batch: Batch) -> Batch:
    """One row of zeros, which is padding, in the form of `batch`: it adds nothing to loss or gradient."""
    row = _map(batch, lambda array: np.zeros((1, *array.shape[1:]), array.dtype))
    # Partners are as long as the longest that was drawn, and of no row none is.
    return row if row.partners is None else row._replace(partners=row.ids)


def _map(batch: Batch, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Batch:
    """`batch` with every array changed."""
    return Batch(
        change(batch.ids),
        change(batch.epochs),
        change(batch.samples),
        None if batch.partners is None else change(batch.partners),
        {name: change(array) for name, array in batch.extras.items()},
    )


def note_best(state: LoopState, valid: dict[str, float], goal: Goal) -> bool:
    """Record the validation figures in `state`; whether they are the best so far."""
    value = valid.get(goal.metric)
    if value is None or math.isnan(value) or (state.best and not goal.is_better(value, state.best.value)):
        return False
    state.best = Best(goal.metric, value, state.step)
    return True
