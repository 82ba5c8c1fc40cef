"""Storage that is gone for a while, and errors that no waiting mends."""

import errno
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reforge.loop import Checkpoints, LoopState, patience
from reforge.loop.patience import patiently
from reforge.spec import UserError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute in a fraction of a second."""
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def state() -> LoopState:
    """Of next to nothing."""
    model = nn.Linear(2, 2)
    return LoopState(model, torch.optim.AdamW(model.parameters()), 1, "data", step=4)  # type: ignore[arg-type]


def test_a_checkpoint_waits_for_its_folder_to_come_back(state: LoopState, tmp_path: Path) -> None:
    run, away, said = tmp_path / "run", tmp_path / "away", list[str]()
    run.mkdir()
    checkpoints = Checkpoints(run / "checkpoints", said.append)
    checkpoints.save(state, keep=2)
    run.rename(away)
    back = threading.Timer(0.2, lambda: away.rename(run))
    back.start()
    state.step = 8
    checkpoints.save(state, keep=2)
    back.join()
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-00000004", "step-00000008"]
    [line] = said
    assert "the storage is gone" in line
    assert "waiting for it, up to 60 s" in line


def test_a_checkpoint_does_not_wait_for_ever(state: LoopState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"cannot write the checkpoint of step 4 .* there is no complete one yet"):
        Checkpoints(tmp_path / "gone" / "checkpoints").save(state, keep=2)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_what_no_waiting_mends_is_raised_at_once(number: int) -> None:
    calls = []

    def write() -> None:
        calls.append(1)
        raise OSError(number, "so")

    with pytest.raises(OSError, match="so"):
        patiently(write, lambda line: None)
    assert len(calls) == 1


def test_the_systems_number_is_found_in_the_words_of_safetensors(tmp_path: Path) -> None:
    """It raises an error of its own for what the system refuses."""
    folder, said = tmp_path / "later", list[str]()
    back = threading.Timer(0.1, folder.mkdir)
    back.start()
    patiently(lambda: save_file({"a": torch.zeros(1)}, folder / "a"), said.append)
    back.join()
    assert said
    assert (folder / "a").exists()
