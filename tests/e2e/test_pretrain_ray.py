"""Pre-training under real Ray Train: what it computes and survives. See also test_pretrain_processes.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reforge.distributed.cluster import Resources
from reforge.distributed.train import train_on_ray
from reforge.runs import PretrainJob, RunFolder
from reforge.tracking import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
FOUR_CPUS = Resources(4, 0, "the test's Ray")
# Long enough to be killed in the middle.
LONG = ("train.max_steps=160", "train.checkpoint_every_steps=20", "train.eval_every_steps=80")

MakeJob = Callable[..., PretrainJob]


def train(job: PretrainJob, prepared_folder: Path) -> RunFolder:
    train_on_ray(job, prepared_folder, FOUR_CPUS)
    return RunFolder(job.folder)


@pytest.fixture(scope="module")
def undisturbed(tiny_job: MakeJob, prepared_folder: Path, ray_session: None) -> RunFolder:
    """The long run on two workers, from start to end."""
    return train(tiny_job("name=undisturbed", *LONG), prepared_folder)


def assert_equal(folder: RunFolder, other: RunFolder) -> None:
    """Bit for bit: the weights, the optimizer's state, and every curve, in TensorBoard's files as in metrics.jsonl."""
    for file in ("model.safetensors", "optimizer.safetensors"):
        last = max(path.name for path in other.checkpoints.glob("step-*"))
        assert (folder.checkpoints / last / file).read_bytes() == (other.checkpoints / last / file).read_bytes(), file
    assert folder.weights.read_bytes() == other.weights.read_bytes()
    assert losses(folder) == losses(other)
    curve, other_curve = (
        [(event.step, event.value) for event in EventAccumulator(str(f.tensorboard)).Reload().Scalars("train/loss")]
        for f in (folder, other)
    )
    assert curve == other_curve


def losses(folder: RunFolder) -> list[float]:
    return [row["train/loss"] for row in read_metrics(folder.metrics)]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def test_pythons_own_platform_module_inside_workers() -> None:
    import platform

    import ray

    @ray.remote(num_cpus=0)
    def where() -> str:
        import platform

        return str(platform.__file__)

    assert ray.get(where.remote()) == platform.__file__


def test_kill_9_of_a_worker_in_the_middle_changes_nothing(
    tiny_job: MakeJob, prepared_folder: Path, undisturbed: RunFolder
) -> None:
    job = tiny_job("name=worker-killed", *LONG)
    folder = RunFolder(job.folder)
    killed: list[int] = []

    def kill_first_worker() -> None:
        wait_for((folder.checkpoints / "step-00000040").exists, "the checkpoint of step 40")
        killed.append(int((folder.path / ".lock").read_text().split()[1]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_first_worker)
    killer.start()
    train(job, prepared_folder)
    killer.join()
    assert killed
    assert not Path(f"/proc/{killed[0]}").exists()
    assert int((folder.path / ".lock").read_text().split()[1]) != killed[0]
    assert_equal(folder, undisturbed)


def test_kill_9_of_the_driver_then_the_same_command_goes_on(
    tiny_overrides: list[str], tiny_job: MakeJob, prepared_folder: Path, undisturbed: RunFolder
) -> None:
    job = tiny_job("name=driver-killed", *LONG)
    folder = RunFolder(job.folder)
    command = [sys.executable, "jobs/pretrain.py", str(TINY), *tiny_overrides, "name=driver-killed", *LONG]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((folder.checkpoints / "step-00000060").exists, "the checkpoint of step 60")
    driver.kill()
    driver.wait()
    assert not folder.result.exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=420, check=False)
    assert done.returncode == 0, done.stderr
    assert "prepared already" in done.stderr or "reused" in done.stderr
    assert "going on from step" in done.stderr
    assert "validation loss" in done.stdout
    assert_equal(folder, undisturbed)


def test_ctrl_c_says_how_to_go_on(tiny_overrides: list[str], tiny_job: MakeJob) -> None:
    folder = RunFolder(tiny_job("name=interrupted").folder)
    command = [sys.executable, "jobs/pretrain.py", str(TINY), *tiny_overrides, "name=interrupted", *LONG]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        wait_for((folder.checkpoints / "step-00000020").exists, "the checkpoint of step 20")
        driver.send_signal(signal.SIGINT)
        out, err = driver.communicate(timeout=240)
    assert driver.returncode == 130, err
    assert "the same command goes on from the newest checkpoint" in err
    assert "Traceback" not in err
    assert out == ""


def test_the_finished_run_prints_its_figures_again(
    undisturbed: RunFolder, tiny_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from reforge.distributed.command import pretrain_command

    assert pretrain_command(TINY, [*tiny_overrides, "name=undisturbed", *LONG]) == 0
    out, err = capsys.readouterr()
    assert "is finished" in err
    for words in ("validation loss", "masked accuracy", "perplexity", "bits per byte", "[MASK]", "guesses:"):
        assert words in out
    assert f"--logdir {undisturbed.tensorboard}" in out


def test_a_diverging_run_stops_without_retries(
    tiny_overrides: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reforge.distributed.command import pretrain_command

    overrides = [*tiny_overrides, "name=diverging", "optimizer.lr=1e30", "optimizer.schedule.warmup_steps=0"]
    assert pretrain_command(TINY, overrides) == 2
    err = capsys.readouterr().err
    assert "training diverged at step" in err
    assert "Traceback" not in err
    assert not (storage / "diverging" / "result.json").exists()


def test_dry_run_reports_and_leaves_nothing(
    tiny_overrides: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reforge.distributed.command import pretrain_command

    assert pretrain_command(TINY, [*tiny_overrides, "name=dry", "--dry-run"]) == 0
    out = capsys.readouterr().out
    for words in ("parameters", "training tokens", "memory estimated", "memory measured", "tokens/s"):
        assert words in out
    assert not (storage / "dry").exists()
    assert not (storage / "_ray" / "dry").exists()


def test_relative_storage_means_the_drivers_folder(
    tiny_overrides: list[str],
    deterministic: tuple[str, ...],
    on_3: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray runs its workers in a folder of its own; three of them compute there what three processes compute."""
    from reforge.distributed.command import pretrain_command

    monkeypatch.chdir(tmp_path)
    overrides = [*tiny_overrides, *deterministic, "run.storage=mine", "name=relative", "scale.num_workers=3"]
    assert pretrain_command(TINY, overrides) == 0
    folder = RunFolder(tmp_path / "mine" / "relative")
    assert folder.result.exists()
    np.testing.assert_allclose(losses(folder), losses(on_3), rtol=1e-4)
