"""What `make search` and jobs/tune_pretrain.py do without arguments, as a user finds it afterwards."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reforge.runs.predictor import load_predictor
from reforge.spec import load_source

pytestmark = pytest.mark.slow  # starts Ray and trains two searches for a minute or two each

ROOT = Path(__file__).parents[2]
Opened = Callable[[Path], Callable[[str, Any], Any]]


def search(script: str, storage: Path, *words: str) -> Path:
    """The folder of the search that a script runs by default."""
    command = [sys.executable, str(ROOT / "jobs" / script), f"run.storage={storage}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    assert "all 8 trials are handed out" in ended.stdout
    assert "Traceback" not in ended.stderr
    [folder] = [path for path in storage.iterdir() if (path / "best.yaml").is_file()]
    return folder


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["is_free"] == "0"]


def assert_shown(folder: Path, metric: str, opened: Opened) -> None:
    """TensorBoard's HParams page has every trial with its parameters and its metric, and its curves."""
    ask = opened(folder / "tensorboard")
    groups = ask(
        "hparams/session_groups",
        {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE"], "sliceSize": 100},
    )
    by_name = {group["name"]: group for group in groups["sessionGroups"]}
    assert by_name.keys() == {f"{int(row['number']):04d}" for row in trials(folder)}
    for row in trials(folder):
        group = by_name[f"{int(row['number']):04d}"]
        assert float(group["hparams"]["optimizer.lr"]) == pytest.approx(float(row["optimizer.lr"]))
        [value] = [each["value"] for each in group["metricValues"]]
        assert value == pytest.approx(float(row[metric]), rel=1e-6)
        assert (folder / "tensorboard" / "trials" / group["name"]).is_dir()


def test_the_default_search_of_fine_tunings(tmp_path: Path, opened: Opened) -> None:
    folder = search("tune_finetune.py", tmp_path)
    rows = trials(folder)
    assert len(rows) == 8
    assert {row["outcome"] for row in rows} <= {"finished", "pruned", "reused"}
    assert_shown(folder, "valid/accuracy", opened)
    best = max((row for row in rows if row["outcome"] == "finished"), key=lambda row: float(row["valid/accuracy"]))
    assert load_source(folder / "best.yaml").data["optimizer"]["lr"] == float(best["optimizer.lr"])  # type: ignore[index]
    [exported] = [path.parent for path in folder.glob("trials/*/result.json")]
    assert int(exported.name) == int(best["number"])
    assert load_predictor(exported).kind == "classification"
    kept = [path.parent.name for path in folder.glob("trials/*/checkpoints")]
    assert kept == [exported.name]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.long
def test_the_default_search_of_pretrainings(tmp_path: Path, opened: Opened) -> None:
    folder = search("tune_pretrain.py", tmp_path)
    rows = trials(folder)
    assert len(rows) == 8
    assert all(int(row["model.d_model"]) % int(row["model.num_heads"]) == 0 for row in rows)
    assert_shown(folder, "valid/bits_per_byte", opened)
    [exported] = [path.parent for path in folder.glob("trials/*/result.json")]
    assert (exported / "model.safetensors").is_file()
