"""A labelled set in the loop: neither micro-batches nor processes change what a step learns, or what a set scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from reforge.loop import Goal, StepReport, TaskData, World, assess, named_tensors, train
from reforge.runs.finetune import set_up, start_state
from reforge.runs.finetune_job import FinetuneJob

CPU = torch.device("cpu")
MakeJob = Callable[..., FinetuneJob]
# Without dropout a step is a function of its global batch alone, up to rounding.
EXACT = ("head={kind: linear, dropout: 0}", "task.class_weights={good: 3.0}", "train.max_epochs=2")
MODELS = {
    "transformer": "model={kind: transformer, d_model: 16, depth: 2, num_heads: 2, dropout: 0}",
    "reformer": "model={kind: reformer, d_model: 16, depth: 2, num_heads: 2, bucket_size: 8, attention: exact}",
}


def trained(job: FinetuneJob) -> tuple[list[StepReport], dict[str, torch.Tensor], Any]:
    """The job's reports, weights and answers to its validation set, as this process of possibly several has them."""
    world = World.current(CPU)
    setup = set_up(job, world)
    state, _ = start_state(job, setup, CPU)
    plan = job.train.plan(setup.train.steps_in_epoch(job.train.batch_size))
    data = TaskData(setup.task, setup.train, setup.valid, Goal(*job.task.goal))
    reports = list(train(state, data, plan, job.optimizer, world))
    answers = assess(state.model, setup.task, setup.valid, world, "fp32", 1, plan.micro_batch_tokens)  # type: ignore[arg-type]
    return reports, named_tensors(state.model), answers


def assert_learnt_the_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """The same figures at every step, and the same weights after the last."""
    for here, there in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(
            (here.loss, here.grad_norm, *here.valid.values()),
            (there.loss, there.grad_norm, *there.valid.values()),
            rtol=1e-4,
            atol=1e-5,
        )
    torch.testing.assert_close(one[1], other[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_micro_batches_of_any_size_learn_the_same(finetune_job: MakeJob, model: str) -> None:
    whole, single = (
        trained(finetune_job(*EXACT, MODELS[model], f"train.micro_batch_tokens={tokens}")) for tokens in (10**6, 1)
    )
    assert_learnt_the_same(whole, single)
    assert [answer.label for answer in whole[2].predictions] == [answer.label for answer in single[2].predictions]
    start, _ = start_state(job := finetune_job(*EXACT, MODELS[model]), set_up(job, World()), CPU)
    assert not all(torch.equal(tensor, whole[1][name]) for name, tensor in named_tensors(start.model).items())


def test_class_weights_weigh(finetune_job: MakeJob) -> None:
    weighted, plain = (
        trained(finetune_job(*options, MODELS["transformer"], "train.max_epochs=1"))[0][0].loss
        for options in (EXACT, (EXACT[0],))
    )
    assert weighted != pytest.approx(plain, rel=1e-4)


def work(rank: int, size: int, job: FinetuneJob, place: Path) -> None:
    """Train `job` as one of `size` processes; leaves what came of it in `place`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=size)
    torch.save(trained(job), place / f"rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("model", sorted(MODELS))
def test_two_processes_learn_the_same_as_one_also_where_one_has_no_row(
    finetune_job: MakeJob, tmp_path: Path, model: str
) -> None:
    job = finetune_job(*EXACT, MODELS[model])
    num_rows = len(set_up(job, World()).train)
    job = finetune_job(*EXACT, MODELS[model], f"train.batch_size={num_rows - 1}")  # and then a batch of one row
    alone = trained(job)
    mp.start_processes(work, (2, job, tmp_path), nprocs=2, start_method="forkserver")
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1))
    assert_learnt_the_same(alone, first)
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])
    assert [report.valid for report in first[0]] == [report.valid for report in second[0]]
    assert second[2] is None
    assert [answer.label for answer in first[2].predictions] == [answer.label for answer in alone[2].predictions]
