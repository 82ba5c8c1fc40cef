"""Data-parallel training in processes without Ray: cheap to start, and what runs under Ray are compared with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from reforge.runs import PretrainJob, RunFolder, pretrain


@pytest.fixture(scope="session")
def deterministic() -> tuple[str, ...]:
    """Overrides without hashing and dropout: a step is a function of its global batch alone, up to rounding."""
    return ("model.attention=exact", "model.ff_dropout=0.0", "optimizer.schedule.kind=constant")


def _pretrain(rank: int, job: PretrainJob, prepared_folder: Path, meeting: Path) -> None:
    torch.set_num_threads(1)
    size = job.scale.num_workers
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    pretrain(job, job.folder, prepared_folder, torch.device("cpu"))
    if size > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def train_without_ray(tmp_path_factory: pytest.TempPathFactory) -> Callable[[PretrainJob, Path], RunFolder]:
    """A function that trains a job on prepared data in `scale.num_workers` processes; its run."""

    def train(job: PretrainJob, prepared_folder: Path) -> RunFolder:
        meeting = tmp_path_factory.mktemp("meeting") / "store"
        if job.scale.num_workers == 1:
            _pretrain(0, job, prepared_folder, meeting)
        else:
            arguments = (job, prepared_folder, meeting)
            mp.start_processes(_pretrain, arguments, nprocs=job.scale.num_workers, start_method="forkserver")
        return RunFolder(job.folder)

    return train


@pytest.fixture(scope="session")
def on_3(
    tiny_job: Callable[..., PretrainJob],
    deterministic: tuple[str, ...],
    prepared_folder: Path,
    train_without_ray: Callable[[PretrainJob, Path], RunFolder],
) -> RunFolder:
    """A run on three processes."""
    return train_without_ray(tiny_job("name=on-3", *deterministic, "scale.num_workers=3"), prepared_folder)


@pytest.fixture(scope="session")
def assert_equal() -> Callable[[RunFolder, RunFolder], None]:
    """A check that two runs are equal bit for bit."""
    return _assert_equal


def _assert_equal(folder: RunFolder, other: RunFolder) -> None:
    """The weights, the optimizer's state in every checkpoint, and every curve, in TensorBoard's files as in ours."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from reforge.tracking import read_metrics

    steps, other_steps = ({path.name for path in f.checkpoints.glob("step-*")} for f in (folder, other))
    # A run that was asked to stop has a checkpoint more, which counts among the newest that are kept.
    assert len(steps & other_steps) >= min(2, len(other_steps))
    assert max(steps) == max(other_steps)
    for step in sorted(steps & other_steps):
        for file in ("model.safetensors", "optimizer.safetensors"):
            same = (folder.checkpoints / step / file).read_bytes() == (other.checkpoints / step / file).read_bytes()
            assert same, f"{step}/{file}"
    assert folder.weights.read_bytes() == other.weights.read_bytes()
    losses, other_losses = ([row["train/loss"] for row in read_metrics(f.metrics)] for f in (folder, other))
    assert losses == other_losses
    curve, other_curve = (
        [(event.step, event.value) for event in EventAccumulator(str(f.tensorboard)).Reload().Scalars("train/loss")]
        for f in (folder, other)
    )
    assert curve == other_curve
