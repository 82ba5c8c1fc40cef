"""Runs whose model lies in slices on two processes: kept, gone on with under either strategy, exported, loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

import reforge
from reforge.runs import PretrainJob, RunFolder, pretrain
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.tracking import read_metrics

pytestmark = pytest.mark.slow  # starts processes

TINY = Path(__file__).parents[1] / "tiny.yaml"
CPU = torch.device("cpu")
Job = PretrainJob | FinetuneJob
FSDP, DDP = "scale.strategy=fsdp", "scale.strategy=ddp"
HALF = "train.stop_at_step=8"


def work(rank: int, jobs: list[Job], prepared_folder: Path, meeting: Path) -> None:
    """Train the jobs one after the other, as one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for job in jobs:
        if isinstance(job, FinetuneJob):
            finetune(job, job.folder, CPU)
        else:
            pretrain(job, job.folder, prepared_folder, CPU)
    dist.destroy_process_group()


def train_together(jobs: list[Job], prepared_folder: Path, place: Path) -> None:
    """Train the jobs one after the other on two processes."""
    mp.start_processes(work, (jobs, prepared_folder, place / "meet"), nprocs=2, start_method="forkserver")


def assert_learnt_the_same(folder: RunFolder, other: RunFolder) -> None:
    """All curves to 1e-5, and the weights."""
    rows, others = (list(read_metrics(f.metrics)) for f in (folder, other))
    assert len(rows) == len(others)
    for row, other_row in zip(rows, others, strict=True):
        figures, other_figures = (
            {name: value for name, value in r.items() if name not in ("train/seconds", "train/tokens_per_second")}
            for r in (row, other_row)
        )
        assert figures == pytest.approx(other_figures, rel=1e-5, abs=1e-5)
    torch.testing.assert_close(load_file(folder.weights), load_file(other.weights), rtol=1e-4, atol=1e-4)


def assert_same_form(folder: RunFolder, other: RunFolder) -> None:
    """The files have the same tensors: whatever comes next cannot tell them apart."""
    newest = max(path.name for path in folder.checkpoints.glob("step-*"))
    for file in ("model.safetensors", "optimizer.safetensors"):
        forms = [
            {name: (tensor.shape, tensor.dtype) for name, tensor in load_file(f.checkpoints / newest / file).items()}
            for f in (folder, other)
        ]
        assert forms[0] == forms[1]


MakeJob = Callable[..., PretrainJob]
AssertEqual = Callable[[RunFolder, RunFolder], None]


def test_a_run_in_slices_goes_on_as_if_undisturbed_and_under_the_other_strategy(
    tiny_job: MakeJob, prepared_folder: Path, tmp_path: Path, assert_equal: AssertEqual
) -> None:
    def job(name: str, *overrides: str) -> PretrainJob:
        return tiny_job(f"name=sharded-{name}", *overrides)

    starts = [("whole", FSDP), ("halves", FSDP, HALF), ("halves", FSDP), ("copied", DDP)]
    starts += [("to-fsdp", DDP, HALF), ("to-fsdp", FSDP), ("to-ddp", FSDP, HALF), ("to-ddp", DDP)]
    train_together([job(*start) for start in starts], prepared_folder, tmp_path)
    whole, halves, *others = (RunFolder(job(n).folder) for n in ("whole", "halves", "copied", "to-fsdp", "to-ddp"))
    assert_equal(halves, whole)
    for other in others:
        assert_learnt_the_same(other, whole)
        assert_same_form(other, whole)
    model, weights = reforge.load(whole.path).model, load_file(whole.weights)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())


def test_layers_in_slices_are_pre_trained_and_fine_tuned_to_the_same_figures(
    tiny_job: MakeJob,
    finetune_job: Callable[..., FinetuneJob],
    prepared_folder: Path,
    tmp_path: Path,
    assert_equal: AssertEqual,
) -> None:
    model = ("model={kind: transformer, d_model: 32, depth: 2, num_heads: 2}", "objective.kind=causal")

    def job(name: str, *overrides: str) -> PretrainJob:
        return tiny_job(f"name=by-layer-{name}", *model, *overrides)

    def tuning(strategy: str) -> FinetuneJob:
        encoder = (f"encoder.run={job('whole').folder}", "encoder.trainable_layers=1", "model=null", "tokenizer=null")
        head = ("head={kind: linear, pool: mean}", "optimizer.layer_decay=0.8", "train.max_epochs=2")
        return finetune_job(f"name=by-layer-{strategy}", *encoder, *head, f"scale.strategy={strategy}")

    starts = [("whole", FSDP), ("halves", FSDP, HALF), ("halves", FSDP), ("copied", DDP)]
    pretraining = [job(*start) for start in starts]
    train_together(pretraining, prepared_folder, tmp_path)
    whole, halves, copied = (RunFolder(job(name).folder) for name in ("whole", "halves", "copied"))
    assert_equal(halves, whole)
    assert_learnt_the_same(copied, whole)
    (tmp_path / "meet").unlink(missing_ok=True)
    train_together([tuning("ddp"), tuning("fsdp")], prepared_folder, tmp_path)
    copied, sharded = (RunFolder(tuning(strategy).folder) for strategy in ("ddp", "fsdp"))
    assert_learnt_the_same(copied, sharded)
    assert_same_form(copied, sharded)


@pytest.mark.long  # a group of Ray's workers takes half a minute to start
@pytest.mark.usefixtures("ray_session")
def test_under_ray_slices_are_those_of_processes_without_it(
    tiny_job: MakeJob,
    tiny_overrides: list[str],
    prepared_folder: Path,
    tmp_path: Path,
    assert_equal: AssertEqual,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from reforge.distributed.command import pretrain_command

    here = tiny_job("name=sharded-here", FSDP)
    train_together([here], prepared_folder, tmp_path)
    assert pretrain_command(TINY, [*tiny_overrides, "name=sharded-on-ray", FSDP]) == 0
    assert "ZeRO-2" in capsys.readouterr().err
    assert_equal(RunFolder(tiny_job("name=sharded-on-ray").folder), RunFolder(here.folder))
