"""The cluster's token stays where it is: no line, file or curve of a job holds it, nor do Ray's logs."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]  # starts Ray

ROOT = Path(__file__).parents[2]
TINY, TINY_FINETUNE = (ROOT / "tests" / name for name in ("tiny.yaml", "tiny_finetune.yaml"))
TOKEN = "5ecre7" * 8


@pytest.fixture
def session() -> Iterator[Path]:
    """Where Ray keeps its logs; the path of a socket may be no longer than a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(script: str, spec: Path, overrides: list[str], **environment: str) -> str:
    """What a job's command prints, on both streams."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    command = [sys.executable, f"jobs/{script}.py", str(spec), *overrides]
    env = {**ours, "RAY_AUTH_MODE": "token", **environment}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def holding_token(*folders: Path) -> list[Path]:
    """The files in which it stands, as text of either width."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    spellings = [TOKEN.encode(), TOKEN.encode("utf-16-le")]
    return [path for path in files if any(spelling in path.read_bytes() for spelling in spellings)]


def test_a_token_in_the_environment(tiny_overrides: list[str], tmp_path: Path, session: Path) -> None:
    overrides = [*tiny_overrides, f"run.storage={tmp_path}", "name=quiet", "scale.num_workers=1"]
    said = run("pretrain", TINY, overrides, RAY_AUTH_TOKEN=TOKEN, RAY_TMPDIR=str(session))
    said += run("pretrain", TINY, [*overrides, "--render"], RAY_AUTH_TOKEN=TOKEN)
    assert "validation loss" in said
    assert "kind: pretrain" in said
    assert TOKEN not in said
    assert (tmp_path / "quiet" / "tensorboard").is_dir()
    assert holding_token(tmp_path, session) == []


def test_a_token_in_a_file(finetune_overrides: list[str], tmp_path: Path, session: Path) -> None:
    file = session / "token"
    file.write_text(TOKEN)
    overrides = [*finetune_overrides, f"run.storage={tmp_path}", "name=quiet", "train.max_epochs=1"]
    said = run("finetune", TINY_FINETUNE, overrides, RAY_AUTH_TOKEN_PATH=str(file), RAY_TMPDIR=str(session))
    assert TOKEN not in said
    assert holding_token(tmp_path, session) == [file]


def test_a_ray_of_the_jobs_own_has_a_token_of_its_own(tmp_path: Path, session: Path) -> None:
    """Ray would write one into the home folder, for every user of the machine to read."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    program = (
        "from reforge.distributed.private import *; start_private(1, 0); print(ray.get(ray.remote(lambda: 7).remote()))"
    )
    env = {**ours, "HOME": str(tmp_path), "RAY_TMPDIR": str(session), "PYTHONPATH": str(ROOT / "platform")}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert ended.stdout == "7\n", ended.stderr
    assert not list(tmp_path.rglob("*token*"))
