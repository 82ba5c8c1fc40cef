"""Checkpoints are complete or not there, and hold no pickle."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reforge.batches import open_prepared
from reforge.loop import Best, Checkpoints, LoopState, restore
from reforge.runs import PretrainJob
from reforge.runs.build import build_state
from reforge.spec import UserError


@pytest.fixture
def state(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> LoopState:
    """A state with something in the optimizer."""
    state = build_state(tiny_job(), open_prepared(prepared_folder, tiny_job().data), torch.device("cpu"))
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.step = 4
    return state


def test_holds_safetensors_and_json_only(state: LoopState, tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path).save(state, keep=2)
    assert sorted(p.name for p in folder.iterdir()) == [
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut short", "gone", "changed"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    state: LoopState, tmp_path: Path, file: str, damage: str
) -> None:
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, said.append)
    earlier = checkpoints.save(state, keep=3)
    state.step = 8
    later = checkpoints.save(state, keep=3)
    assert checkpoints.newest_complete() == later
    content = (later / file).read_bytes()
    if damage == "gone":
        (later / file).unlink()
    else:
        (later / file).write_bytes(content[: len(content) // 2] if damage == "cut short" else b"#" + content[1:])
    assert checkpoints.newest_complete() == earlier
    assert len(said) == 1
    assert "step-00000008 is not complete" in said[0]
    assert file in said[0]


def test_killed_while_writing_leaves_the_one_before_it(state: LoopState, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    earlier = checkpoints.save(state, keep=3)
    leftover = tmp_path / ".writing-step-00000008-123"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert checkpoints.newest_complete() == earlier
    state.step = 12
    checkpoints.save(state, keep=3)
    assert not leftover.exists()


def test_keeps_the_newest_and_the_best(state: LoopState, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8, 12, 16, 20):
        state.step = step
        if step == 8:
            state.best = Best("loss", 1.0, 8)
        checkpoints.save(state, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000008", "step-00000016", "step-00000020"]


def test_a_damaged_one_ahead_does_not_cost_what_is_written_after_a_resume(state: LoopState, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 20):
        state.step = step
        checkpoints.save(state, keep=1)
    (tmp_path / "step-00000020" / "model.safetensors").write_bytes(b"")
    (tmp_path / "step-00000004-mine").mkdir()  # a user's copy is nobody else's business
    state.step = 8
    checkpoints.save(state, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004-mine", "step-00000008"]


SAVES_FOR_EVER = """
import sys, torch
from pathlib import Path
from reforge.loop import Checkpoints, LoopState
model = torch.nn.Linear(2000, 2000)
state = LoopState(model, torch.optim.AdamW(model.parameters()), 1, "data")
while True:
    state.step += 1
    Checkpoints(Path(sys.argv[1])).save(state, keep=2)
"""


@pytest.mark.slow  # a process that imports torch
def test_kill_9_while_writing_leaves_the_one_before_it(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", SAVES_FOR_EVER, str(tmp_path)])
    deadline = time.monotonic() + 120
    while not (any(tmp_path.glob("step-*")) and any(tmp_path.glob(".writing-*/model.safetensors"))):
        assert time.monotonic() < deadline
    writer.kill()
    writer.wait()
    newest = Checkpoints(tmp_path).newest_complete()
    assert newest is not None
    assert newest.name == max(path.name for path in tmp_path.glob("step-*"))
    assert any(tmp_path.glob(".writing-*"))


def test_refuses_a_checkpoint_of_other_data(state: LoopState, tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path).save(state, keep=1)
    state.data_fingerprint = "other"
    with pytest.raises(UserError, match=r"cannot be resumed: the data, how they are read"):
        restore(state, folder)


def test_refuses_a_checkpoint_of_another_model(
    state: LoopState, tiny_job: Callable[..., PretrainJob], prepared_folder: Path, tmp_path: Path
) -> None:
    folder = Checkpoints(tmp_path).save(state, keep=1)
    other = build_state(tiny_job("model.depth=3"), open_prepared(prepared_folder, tiny_job().data), torch.device("cpu"))
    with pytest.raises(UserError, match=r"is of another model, objective or size:\n  backbone\.lm\."):
        restore(other, folder)


WRITES_UNTIL_FULL = """
import resource, signal, sys, torch
from pathlib import Path
from reforge.loop import Checkpoints, LoopState
from reforge.spec import UserError
model = torch.nn.Linear(64, 64)
state = LoopState(model, torch.optim.AdamW(model.parameters()), 1, "data", step=4)
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(state, keep=2)
print("complete:", checkpoints.newest_complete().name)
if sys.argv[2] == "limit":  # no file may grow beyond 2 kB: the same to the writer as a disk that is full
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
else:
    Path(sys.argv[1], "filler").write_bytes(bytes(int(sys.argv[2])))
state.step = 8
try:
    checkpoints.save(state, keep=2)
except UserError as error:
    print("user error:", error)
print("complete:", checkpoints.newest_complete().name, sorted(p.name for p in Path(sys.argv[1]).glob("*step*")))
"""


def check_survives_full_disk(folder: Path, how: str) -> None:
    command = [sys.executable, "-c", WRITES_UNTIL_FULL, str(folder), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "complete: step-00000004"
    assert lines[1].startswith("user error: cannot write the checkpoint of step 8")
    assert "the last complete one is" in lines[1]
    assert lines[2] == "complete: step-00000004 ['step-00000004']"


@pytest.mark.slow  # a process that imports torch
def test_a_file_that_cannot_grow_stops_with_the_last_complete_one_intact(tmp_path: Path) -> None:
    check_survives_full_disk(tmp_path, "limit")


@pytest.mark.slow  # a process that imports torch
def test_a_full_disk_stops_with_the_last_complete_one_intact(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system; the file-size limit above stands in for it")
    try:
        check_survives_full_disk(tmp_path, str(220 * 1024))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_counters_are_plain_json(state: LoopState, tmp_path: Path) -> None:
    state.best = Best("loss", 2.5, 4)
    folder = Checkpoints(tmp_path).save(state, keep=1)
    stored = json.loads((folder / "state.json").read_text())
    assert stored["step"] == 4
    assert stored["best"] == ["loss", 2.5, 4]
    assert os.access(folder, os.R_OK)
