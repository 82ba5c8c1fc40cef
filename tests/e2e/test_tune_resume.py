"""A search whose driver is killed, or interrupted, goes on by the same command as if nothing had been."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]  # starts Ray several times

ROOT = Path(__file__).parents[2]
SPACE = f"""
kind: tune
extends: {ROOT / "tests" / "tiny_finetune.yaml"}
metric: {{name: valid/loss, mode: min}}
train: {{batch_size: 4, max_epochs: 4}}
space:
  optimizer.lr: {{low: 1.0e-6, high: 1.0e-1, log: true}}
scheduler: {{kind: asha, grace_period: 2, reduction_factor: 2}}
search: {{num_trials: 5, max_concurrent: 1, sampler: {{kind: tpe, seed: 5, n_startup_trials: 2}}}}
"""
# What the clock has a say in.
TIMES = ("seconds", "seconds_trained", "began", "ended", "tokens_per_second", "peak_memory_gib")
Begin = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def begin(tmp_path: Path, finetune_overrides: list[str]) -> Begin:
    """A function that starts the search of a name, in a process group of its own."""
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")

    def start(name: str) -> "subprocess.Popen[str]":
        words = ["--space", str(tmp_path / "space.yaml"), *finetune_overrides]
        words += [f"run.storage={tmp_path / 'runs'}", f"name={name}"]
        return subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "tune_finetune.py"), *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def trials(folder: Path) -> list[dict[str, Any]]:
    """trials.csv, without what the clock has a say in."""
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def wait_for_reports(folder: Path, trial: int, count: int, process: "subprocess.Popen[str]") -> None:
    """Until a trial has so many checkpoints behind it."""
    file, deadline = folder / "trials" / f"{trial:04d}" / "metrics.jsonl", time.monotonic() + 300
    while not file.is_file() or file.read_text(encoding="utf-8").count("valid/loss") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_driver_that_is_killed_or_interrupted(begin: Begin, tmp_path: Path) -> None:
    undisturbed = begin("undisturbed")
    out, err = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, err
    expected = trials(tmp_path / "runs" / "undisturbed")
    assert len(expected) == 5

    folder = tmp_path / "runs" / "killed"
    process = begin("killed")
    wait_for_reports(folder, 1, 1, process)
    process.kill()
    process.communicate()

    process = begin("killed")
    wait_for_reports(folder, 2, 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    kept = {"best.yaml", "report.html", "spec.yaml", "study.journal", "tensorboard", "trials", "trials.csv"}
    assert kept <= {path.name for path in folder.iterdir()}

    process = begin("killed")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert trials(folder) == expected
    assert "disk " in out
    best = out.split("best               trial ")[1].split()[0]
    checkpoints = [path.parent.name for path in (folder / "trials").glob("*/checkpoints")]
    assert checkpoints == [f"{int(best):04d}"]
    assert (folder / "trials" / checkpoints[0] / "result.json").is_file()
