"""A run as one plain process does it: the folder it leaves, resuming it, and using it."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import reforge
from reforge.loop import StepReport
from reforge.runs import PretrainJob, RunFolder, RunStatus, pretrain
from reforge.runs.stop_request import Leaving, Stopped, StopRequest
from reforge.spec import UserError
from reforge.tracking import read_metrics

CPU = torch.device("cpu")


class Killed(Exception):
    """Stands for whatever ends a process at a given step."""


def kill_at(step: int) -> Callable[[StepReport], None]:
    def on_report(report: StepReport) -> None:
        if report.step == step:
            raise Killed

    return on_report


def start(job: PretrainJob, prepared_folder: Path, kill: int | None = None) -> list[dict[str, object]]:
    """Run the job, to its end or to a kill after the step `kill`; what it said."""
    events: list[dict[str, object]] = []
    try:
        pretrain(job, job.folder, prepared_folder, CPU, events.append, kill_at(kill) if kill else lambda report: None)
    except Killed:
        assert kill
    return events


@pytest.fixture(scope="module")
def whole(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> RunFolder:
    """An undisturbed run."""
    job = tiny_job("name=whole")
    start(job, prepared_folder)
    return RunFolder(job.folder)


def test_the_finished_run_is_a_folder_anyone_can_use(whole: RunFolder, tiny_job: Callable[..., PretrainJob]) -> None:
    names = {p.name for p in whole.path.iterdir() if not p.name.startswith(".")}
    assert names == {
        "spec.yaml", "tokenizer.json", "model.safetensors", "config.json", "metrics.jsonl", "result.json",
        "tensorboard", "checkpoints",
    }  # fmt: skip
    assert whole.status(tiny_job("name=whole")) is RunStatus.FINISHED
    result = json.loads(whole.result.read_text())
    assert result["step"] == 12
    assert result["metrics"].keys() == {"loss", "perplexity", "bits_per_byte", "masked_accuracy"}


def test_load_gives_model_and_tokenizer_back(whole: RunFolder) -> None:
    model, tokenizer = reforge.load(whole.path)
    stored = load_file(whole.weights)
    assert all(torch.equal(stored[name], p) for name, p in model.named_parameters())
    ids_BT = torch.tensor([tokenizer.encode("An [MASK] statement").ids])
    assert model.backbone(ids_BT).shape == (1, ids_BT.shape[1], 32)
    assert model.logits(ids_BT).shape == (1, ids_BT.shape[1], tokenizer.get_vocab_size())
    assert not model.training


def test_load_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such run"):
        reforge.load(tmp_path / "none")
    with pytest.raises(UserError, match=r"is not a finished run: config\.json, model\.safetensors, tokenizer\.json"):
        reforge.load(tmp_path)


def curves(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder.tensorboard), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_load_refuses_files_of_two_runs(whole: RunFolder, tmp_path: Path) -> None:
    mixed = RunFolder(Path(shutil.copytree(whole.path, tmp_path / "mixed")))
    tokenizer = json.loads(mixed.tokenizer.read_text())
    removed = tokenizer["model"]["vocab"].popitem()
    mixed.tokenizer.write_text(json.dumps(tokenizer))
    num_tokens = len(tokenizer["model"]["vocab"])
    message = rf"tokenizer\.json has {num_tokens} tokens, but the weights .* of {num_tokens + 1}: it is another run's"
    with pytest.raises(UserError, match=message):
        reforge.load(mixed.path)
    tokenizer["model"]["vocab"].update([removed])
    mixed.tokenizer.write_text(json.dumps(tokenizer))
    config = json.loads(mixed.config.read_text())
    config["model"].update(depth=1, ff_mult=2)
    mixed.config.write_text(json.dumps(config))
    with pytest.raises(UserError, match="is of another model, objective or size") as error:
        reforge.load(mixed.path)
    assert "blocks.1.f.net.fn.toqk.weight: in the file only" in str(error.value)
    assert "blocks.0.g.net.fn.fn.w1.weight: [128, 32] in the file, [64, 32] in the model" in str(error.value)


def test_tensorboard_holds_every_curve_and_text(whole: RunFolder) -> None:
    scalars = curves(whole)
    for tag in ("train/loss", "train/lr", "train/grad_norm", "train/tokens_per_second"):
        assert [step for step, _ in scalars[tag]] == list(range(1, 13)), tag
    for tag in ("valid/loss", "valid/perplexity", "valid/bits_per_byte", "valid/masked_accuracy"):
        assert [step for step, _ in scalars[tag]] == [4, 8, 12], tag
    events = EventAccumulator(str(whole.tensorboard), size_guidance={"tensors": 0}).Reload()
    text = {
        tag: [e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]
    }
    assert any("num_heads: 2" in value for tag, values in text.items() if "spec" in tag for value in values)
    assert all("[MASK]" in value for tag, values in text.items() if "samples" in tag for value in values)


def wait_a_second(folder: RunFolder) -> None:
    """Return in another second than the newest event file was begun in, which names it: TensorBoard reads by name."""
    newest = max(int(file.name.split(".")[3]) for file in folder.tensorboard.iterdir())
    while int(time.time()) <= newest:
        time.sleep(0.05)


@pytest.mark.parametrize("kill", [5, *(pytest.param(step, marks=pytest.mark.slow) for step in (3, 8, 12))])
def test_a_killed_run_goes_on_to_the_same_weights_and_curves(
    kill: int, whole: RunFolder, tiny_job: Callable[..., PretrainJob], prepared_folder: Path
) -> None:
    job = tiny_job(f"name=killed-at-{kill}")
    start(job, prepared_folder, kill)
    folder = RunFolder(job.folder)
    assert not folder.result.exists()
    assert folder.status(job) is (RunStatus.NEW if kill == 3 else RunStatus.UNFINISHED)
    torch.manual_seed(5)
    wait_a_second(folder)
    said = start(job, prepared_folder)
    assert ({"say": f"going on from step {kill // 4 * 4} of 12"} in said) is (kill > 3)
    assert folder.weights.read_bytes() == whole.weights.read_bytes()
    last = "step-00000012"
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (folder.checkpoints / last / file).read_bytes() == (whole.checkpoints / last / file).read_bytes()
    for tag, curve in curves(whole).items():
        if tag not in ("train/tokens_per_second", "train/seconds"):
            assert curves(folder)[tag] == curve, tag
    assert [row["step"] for row in read_metrics(folder.metrics)] == list(range(1, 13))


def test_a_run_that_is_asked_to_stop_ends_its_step_and_goes_on_from_there(
    whole: RunFolder, tiny_job: Callable[..., PretrainJob], prepared_folder: Path
) -> None:
    job = tiny_job("name=stopped")
    folder = RunFolder(job.folder)

    def ask_at_5(report: StepReport) -> None:
        if report.step == 5:
            assert StopRequest(folder.path).make()

    with pytest.raises(Stopped, match="stopped after step 6 of 12, which is in a checkpoint"):
        pretrain(job, folder.path, prepared_folder, CPU, on_report=ask_at_5)
    assert (folder.checkpoints / "step-00000006").is_dir()
    assert not StopRequest(folder.path).is_made()
    wait_a_second(folder)
    assert {"say": "going on from step 6 of 12"} in start(job, prepared_folder)
    assert folder.weights.read_bytes() == whole.weights.read_bytes()


def test_a_process_that_has_to_go_ends_its_step_and_another_goes_on_from_there(
    whole: RunFolder, tiny_job: Callable[..., PretrainJob], prepared_folder: Path
) -> None:
    job = tiny_job("name=leaving")
    folder = RunFolder(job.folder)
    steps_left = iter([False] * 6 + [True])

    with pytest.raises(Leaving, match="stopped after step 7 of 12, which is in a checkpoint"):
        pretrain(job, folder.path, prepared_folder, CPU, is_leaving=lambda: next(steps_left))
    assert (folder.checkpoints / "step-00000007").is_dir()
    start(job, prepared_folder)
    assert folder.weights.read_bytes() == whole.weights.read_bytes()


def test_another_spec_under_the_same_name_is_refused(whole: RunFolder, tiny_job: Callable[..., PretrainJob]) -> None:
    before = whole.spec.read_text()
    with pytest.raises(UserError) as error:
        whole.claim(tiny_job("name=whole", "optimizer.lr=1e-4", "model.depth=3"))
    assert "optimizer.lr: was 0.003, now 0.0001" in str(error.value)
    assert "model.depth: was 2, now 3" in str(error.value)
    assert whole.spec.read_text() == before


@pytest.mark.slow  # takes seconds
def test_a_finished_run_can_be_trained_further(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> None:
    start(tiny_job("name=further", "train.max_steps=4"), prepared_folder)
    job = tiny_job("name=further", "train.max_steps=8", "scale.num_workers=1")
    assert RunFolder(job.folder).status(job) is RunStatus.UNFINISHED
    start(job, prepared_folder)
    assert json.loads(RunFolder(job.folder).result.read_text())["step"] == 8


@pytest.mark.slow  # trains for seconds
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    whole: RunFolder, tiny_job: Callable[..., PretrainJob], prepared_folder: Path, tmp_path: Path
) -> None:
    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(tmp_path)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    # Room for one checkpoint of about 0.9 MB and a half.
    if mount("size=1400k"):
        pytest.skip("this machine lets nobody mount a small file system; see also tests/loop/test_checkpoint.py")
    try:
        job = tiny_job("name=full", f"run.storage={tmp_path}")
        with pytest.raises(UserError, match=r"No space left on device.*the last complete one is .*step-00000004"):
            start(job, prepared_folder)
        folder = RunFolder(job.folder)
        assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000004"]
        assert not folder.result.exists()
        assert mount("remount", "size=16m") == 0
        assert {"say": "going on from step 4 of 12"} in start(job, prepared_folder)
        assert folder.weights.read_bytes() == whole.weights.read_bytes()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_two_processes_cannot_write_one_run(tiny_job: Callable[..., PretrainJob]) -> None:
    first, second = tiny_job("name=contested"), tiny_job("name=contested", "model.depth=3")
    folder = RunFolder(first.folder)
    with folder.claim(first), pytest.raises(UserError, match="is being written by another process"):
        folder.claim(second, wait_seconds=0.1)
    assert "depth: 2" in folder.spec.read_text()


def test_a_storage_path_that_cannot_be_written(tiny_job: Callable[..., PretrainJob], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    job = tiny_job(f"run.storage={tmp_path / 'file' / 'runs'}")
    with pytest.raises(UserError, match=r"run\.storage: cannot write .*Not a directory"):
        RunFolder(job.folder).claim(job)
