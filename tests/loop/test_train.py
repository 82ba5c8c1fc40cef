"""The loop: what a step computes, and that all of its state is in one object."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reforge.batches import Batch, open_prepared
from reforge.loop import Checkpoints, LoopState, StepReport, TrainingDiverged, World, restore, train
from reforge.loop.train import split, take_step
from reforge.runs import PretrainJob
from reforge.runs.build import build_data, build_state

CPU = torch.device("cpu")
WORLD = World()
# Without hashing and dropout a step is a function of its global batch alone.
DETERMINISTIC = ("model.attention=exact", "model.ff_dropout=0.0")


@pytest.fixture
def start(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> Callable[..., tuple[PretrainJob, LoopState]]:
    """A function from overrides to the job and its state before the first step."""

    def make(*overrides: str) -> tuple[PretrainJob, LoopState]:
        job = tiny_job(*overrides)
        return job, build_state(job, open_prepared(prepared_folder, job.data), CPU)

    return make


def run(job: PretrainJob, state: LoopState, prepared_folder: Path, stop_at: int | None = None) -> list[StepReport]:
    reports = []
    for report in train(state, build_data(open_prepared(prepared_folder, job.data)), job.train, job.optimizer, WORLD):
        reports.append(report)
        if report.step == stop_at:
            break
    return reports


def assert_same(a: LoopState, b: LoopState) -> None:
    """Bit for bit: weights, optimizer state, counters."""
    assert a.counters() == b.counters()
    for (name, p), (_, q) in zip(a.model.named_parameters(), b.model.named_parameters(), strict=True):
        assert torch.equal(p, q), name
        for key, value in a.optimizer.state[p].items():
            assert torch.equal(value, b.optimizer.state[q][key]), f"{name}/{key}"


@pytest.mark.slow  # trains for seconds
def test_the_loss_falls(start: Callable[..., tuple[PretrainJob, LoopState]], prepared_folder: Path) -> None:
    job, state = start("train.max_steps=80", "train.eval_every_steps=40", "train.micro_batch_tokens=256")
    reports = run(job, state, prepared_folder)
    assert [r.step for r in reports] == list(range(1, 81))
    first, last = (np.mean([r.loss for r in part]) for part in (reports[:10], reports[-10:]))
    assert last < first - 0.4
    assert [r.step for r in reports if r.valid] == [40, 80]
    assert state.tokens_seen == reports[-1].tokens_seen == 80 * 256
    assert reports[-1].valid.keys() == set(state.model.metric_names)


@pytest.mark.parametrize("stop_at", [pytest.param(4, marks=pytest.mark.slow), 5])
def test_resume_is_bit_for_bit(
    start: Callable[..., tuple[PretrainJob, LoopState]], prepared_folder: Path, tmp_path: Path, stop_at: int
) -> None:
    job, whole = start()
    run(job, whole, prepared_folder)
    _, first = start()
    run(job, first, prepared_folder, stop_at)
    folder = Checkpoints(tmp_path).save(first, keep=1)
    torch.manual_seed(99)  # whatever the random state of the process that goes on
    _, second = start()
    restore(second, folder)
    assert second.step == stop_at
    run(job, second, prepared_folder)
    assert_same(whole, second)


def test_micro_batches_do_not_change_the_step(
    start: Callable[..., tuple[PretrainJob, LoopState]], prepared_folder: Path
) -> None:
    weights, losses = [], []
    for micro_batch_tokens in (32, 96, 256):  # 8, 3 (of unequal size) and 1 micro-batches
        job, state = start(*DETERMINISTIC, f"train.micro_batch_tokens={micro_batch_tokens}", "train.max_steps=3")
        losses.append([r.loss for r in run(job, state, prepared_folder)])
        weights.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))
    for other_losses, other_weights in zip(losses[1:], weights[1:], strict=True):
        np.testing.assert_allclose(other_losses, losses[0], rtol=1e-5)
        torch.testing.assert_close(other_weights, weights[0], rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_stops_before_the_update(
    start: Callable[..., tuple[PretrainJob, LoopState]], prepared_folder: Path
) -> None:
    job, state = start()
    with torch.no_grad():
        state.model.output.bias[7] = float("nan")
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    with pytest.raises(TrainingDiverged, match=r"diverged at step 1: loss nan.*Lower optimizer\.lr"):
        run(job, state, prepared_folder)
    assert state.step == 0
    for name, p in state.model.named_parameters():
        assert torch.equal(p, before[name]) or name == "output.bias"
        assert p.grad is None


def test_ranks_with_too_few_samples_add_nothing(
    start: Callable[..., tuple[PretrainJob, LoopState]], prepared_folder: Path
) -> None:
    job, state = start(*DETERMINISTIC)
    blocks = open_prepared(prepared_folder, job.data).train.blocks(np.arange(1))
    batch = Batch(blocks, np.zeros(1, dtype=np.int64), np.arange(1))
    seen: dict[str, list[torch.Tensor]] = defaultdict(list)
    state.optimizer.register_step_pre_hook(
        lambda *_: [seen[name].append(p.grad.clone()) for name, p in state.model.named_parameters()] and None
    )
    for num_parts in (1, 3):
        inputs = [state.model.collate(part, job.train.seed) for part in split(batch, num_parts)]
        assert len(inputs) == num_parts
        take_step(state.model, state, inputs, 0.0, 1e9, job.train, WORLD)
    for gradient, gradient_in_parts in seen.values():
        torch.testing.assert_close(gradient_in_parts, gradient)


def test_weight_decay_acts_on_matrices_only(start: Callable[..., tuple[PretrainJob, LoopState]]) -> None:
    _, state = start("model.position=axial")
    decayed, kept = state.optimizer.param_groups
    names = {id(p): name for name, p in state.model.named_parameters()}
    assert decayed["weight_decay"] == 0.01
    assert kept["weight_decay"] == 0.0
    assert {names[id(p)].rsplit(".", 1)[1] for p in decayed["params"]} == {"weight"}
    assert any("norm" in names[id(p)] for p in kept["params"])
    assert any("pos_emb" in names[id(p)] for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(state.model.parameters()))


@pytest.mark.slow  # trains for seconds
def test_evaluation_does_not_disturb_training(
    start: Callable[..., tuple[PretrainJob, LoopState]], prepared_folder: Path
) -> None:
    weights = []
    for every in (1, 12):
        job, state = start(f"train.eval_every_steps={every}")
        run(job, state, prepared_folder)
        weights.append(state.model.output.weight.detach().clone())
    assert torch.equal(*weights)
