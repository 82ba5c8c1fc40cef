"""Models whose gradients DistributedDataParallel cannot count on, trained by two real processes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from reforge.batches import open_prepared
from reforge.loop import World, named_tensors, train
from reforge.runs import PretrainJob
from reforge.runs.build import build_data, build_state

pytestmark = pytest.mark.slow  # starts processes

CPU = torch.device("cpu")
EXACT = ("model.attention=exact", "model.ff_dropout=0.0", "train.max_steps=4")


def work(rank: int, size: int, job: PretrainJob, prepared_folder: Path, place: Path) -> None:
    """Train `job` as one of `size` processes; leaves its losses and weights in `place`."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=size)
    prepared = open_prepared(prepared_folder, job.data)
    state = build_state(job, prepared, CPU)
    losses = [r.loss for r in train(state, build_data(prepared), job.train, job.optimizer, World.current(CPU))]
    torch.save((losses, named_tensors(state.model)), place / f"rank-{rank}.pt")
    if size > 1:
        dist.destroy_process_group()


@pytest.fixture
def run(prepared_folder: Path, tmp_path: Path) -> Callable[[PretrainJob, int], list[tuple[list[float], dict]]]:  # type: ignore[type-arg]
    """A function from a job and a number of processes to each one's losses and weights."""

    def start(job: PretrainJob, size: int) -> list[tuple[list[float], dict]]:  # type: ignore[type-arg]
        place = tmp_path / str(size)
        place.mkdir()
        mp.start_processes(work, (size, job, prepared_folder, place), nprocs=size, start_method="forkserver")
        return [torch.load(place / f"rank-{rank}.pt") for rank in range(size)]

    return start


def test_tied_reversible_layers_learn_the_same_on_two_processes(
    tiny_job: Callable[..., PretrainJob], run: Callable[..., list]
) -> None:  # type: ignore[type-arg]
    job = tiny_job("model.weight_tie=true", "model.memory=reversible", *EXACT)
    (alone, _), *_ = run(job, 1)
    (first, weights), (second, others) = run(job, 2)
    assert first == second
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_dropped_layers_leave_all_processes_with_the_same_weights(
    tiny_job: Callable[..., PretrainJob], run: Callable[..., list]
) -> None:  # type: ignore[type-arg]
    (_, weights), (_, others) = run(tiny_job("model.layer_dropout=0.5", *EXACT), 2)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
