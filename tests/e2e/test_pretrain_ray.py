"""Pre-training under real Ray Train: it computes what processes without Ray compute, whatever happens to it.

A group of workers takes half a minute to start, so one job goes through every accident.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reforge.distributed.command import pretrain_command
from reforge.runs import PretrainJob, RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
# Long enough to be stopped three times in the middle.
LONG = (
    "train.max_steps=240", "train.checkpoint_every_steps=20", "train.keep_checkpoints=12", "train.eval_every_steps=80",
)  # fmt: skip

MakeJob = Callable[..., PretrainJob]
AssertEqual = Callable[[RunFolder, RunFolder], None]


@pytest.fixture(scope="module")
def undisturbed(
    tiny_job: MakeJob, prepared_folder: Path, train_without_ray: Callable[[PretrainJob, Path], RunFolder]
) -> RunFolder:
    """The long run on two processes without Ray, from start to end."""
    return train_without_ray(tiny_job("name=undisturbed", *LONG), prepared_folder)


def newest_step(folder: RunFolder) -> int:
    return max((int(path.name.partition("-")[2]) for path in folder.checkpoints.glob("step-*")), default=0)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def stop_after_a_checkpoint(arguments: list[str], folder: RunFolder, number: int) -> tuple[int, str, str]:
    """Start the job's command and send it a signal once there is a checkpoint more; exit code, output and errors."""
    before = newest_step(folder)
    command = [sys.executable, "jobs/pretrain.py", str(TINY), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        wait_for(lambda: newest_step(folder) > before or driver.poll() is not None, "a checkpoint")
        driver.send_signal(number)
        out, err = driver.communicate(timeout=240)
    assert not folder.result.exists()
    return driver.returncode, out, err


@contextmanager
def kill_first_worker_after_a_checkpoint(folder: RunFolder) -> Iterator[list[int]]:
    """While the block runs; gives the ids of the processes killed."""
    before = newest_step(folder)
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: newest_step(folder) > before, "a checkpoint")
        killed.append(writer_of(folder))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    yield killed
    killer.join()


def writer_of(folder: RunFolder) -> int:
    return int((folder.path / ".lock").read_text().split()[1])


def test_pythons_own_platform_module_inside_workers() -> None:
    import platform

    import ray

    @ray.remote(num_cpus=0)
    def where() -> str:
        import platform

        return str(platform.__file__)

    assert ray.get(where.remote()) == platform.__file__


def test_kill_9_of_the_driver_then_ctrl_c_then_kill_9_of_a_worker_change_nothing(
    tiny_overrides: list[str],
    tiny_job: MakeJob,
    undisturbed: RunFolder,
    assert_equal: AssertEqual,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*tiny_overrides, "name=disturbed", *LONG]
    folder = RunFolder(tiny_job("name=disturbed").folder)

    code, _, err = stop_after_a_checkpoint(arguments, folder, signal.SIGKILL)
    assert code == -signal.SIGKILL, err

    code, out, err = stop_after_a_checkpoint(arguments, folder, signal.SIGINT)
    assert code == 130, err
    assert "going on from step" in err
    assert "the same command goes on from the newest checkpoint" in err
    assert "Traceback" not in err
    assert out == ""

    with kill_first_worker_after_a_checkpoint(folder) as killed:
        code = pretrain_command(TINY, arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert killed
    assert not Path(f"/proc/{killed[0]}").exists()
    assert writer_of(folder) != killed[0]
    assert "prepared already" in err or "reused" in err
    assert err.count("going on from step") == 2  # this command's start, and the workers that took over
    assert "validation loss" in out
    assert_equal(folder, undisturbed)


def test_the_finished_run_prints_its_figures_again(
    undisturbed: RunFolder, tiny_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain_command(TINY, [*tiny_overrides, "name=undisturbed", *LONG]) == 0
    out, err = capsys.readouterr()
    assert "is finished" in err
    for words in ("validation loss", "masked accuracy", "perplexity", "bits per byte", "[MASK]", "guesses:"):
        assert words in out
    assert f"--logdir {undisturbed.tensorboard}" in out


def test_relative_storage_means_the_drivers_folder(
    tiny_overrides: list[str],
    deterministic: tuple[str, ...],
    on_3: RunFolder,
    assert_equal: AssertEqual,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray runs its workers in a folder of its own; three of them compute there what three processes compute."""
    monkeypatch.chdir(tmp_path)
    overrides = [*tiny_overrides, *deterministic, "run.storage=mine", "name=relative", "scale.num_workers=3"]
    assert pretrain_command(TINY, overrides) == 0
    assert (tmp_path / "mine" / "relative" / "result.json").exists()
    assert_equal(RunFolder(tmp_path / "mine" / "relative"), on_3)


def test_a_diverging_run_stops_without_retries(
    tiny_overrides: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*tiny_overrides, "name=diverging", "optimizer.lr=1e30", "optimizer.schedule.warmup_steps=0"]
    assert pretrain_command(TINY, overrides) == 2
    err = capsys.readouterr().err
    assert "training diverged at step" in err
    assert "Traceback" not in err
    assert not (storage / "diverging" / "result.json").exists()


def test_dry_run_reports_and_leaves_nothing(
    tiny_overrides: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain_command(TINY, [*tiny_overrides, "name=dry", "--dry-run"]) == 0
    out = capsys.readouterr().out
    for words in ("parameters", "training tokens", "memory estimated", "memory measured", "tokens/s"):
        assert words in out
    assert not (storage / "dry").exists()
    assert not (storage / "_ray" / "dry").exists()
