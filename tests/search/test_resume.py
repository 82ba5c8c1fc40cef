"""A search whose driver is killed goes on as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reforge.search.dimension import Choice, Dimension, Range
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.samplers import TPEOptions
from reforge.search.space import Space
from reforge.search.study import Study

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

SPACE = Space(
    (
        Dimension("optimizer.lr", Range(1e-5, 1e-2, log=True), paths=("optimizer.lr",)),
        Dimension("model.d_model", Choice((64, 96, 128)), paths=("model.d_model",)),
        Dimension("model.num_heads", Choice((4, 5)), paths=("model.num_heads",)),
    )
)
OPTIONS = SearchOptions(sampler=TPEOptions(seed=4, n_startup_trials=5), num_trials=16)


def violated(assignment: Any) -> list[str]:
    """Half the space cannot be trained."""
    return ["d_model % num_heads"] if assignment["model.d_model"] % assignment["model.num_heads"] else []


def open_study(path: Path) -> Study:
    """The search of this test."""
    return Study("s", SPACE, OPTIONS, [MetricOptions(name="valid/loss", mode="min")], str(path), violated)


def drive(path: Path, log: Path, seconds: float) -> None:
    """A driver: writes what it is handed, trains for `seconds`, tells."""
    study = open_study(path)
    while (suggestion := study.ask()) is not None:
        with log.open("a") as file:
            file.write(json.dumps([suggestion.number, dict(suggestion.assignment), suggestion.resumed]) + "\n")
        time.sleep(seconds)
        study.report(suggestion.number, 1, 1.0)
        study.finish(suggestion.number, suggestion.assignment["optimizer.lr"])


def lines(log: Path) -> list[Any]:
    """What the drivers were handed."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_what_was_handed_out_and_not_told_is_handed_out_again(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    first = open_study(path)
    one, two, three = first.ask(), first.ask(), first.ask()
    assert one is not None
    assert two is not None
    assert three is not None
    first.finish(two.number, 0.3)
    again = open_study(path)
    resumed = [again.ask(), again.ask()]
    for before, after in zip((one, three), resumed, strict=True):
        assert after is not None
        assert after.resumed
        assert (after.number, after.assignment) == (before.number, before.assignment)
        again.report(after.number, 1, 0.5)
        again.finish(after.number, 0.5)
    new = again.ask()
    assert new is not None
    assert not new.resumed
    assert new.number > three.number
    assert again.trials[two.number].values == (0.3,)


def test_a_half_drawn_trial_is_drawn_to_its_end(tmp_path: Path) -> None:
    whole = open_study(tmp_path / "whole.journal").ask()
    path = tmp_path / "study.journal"
    open_study(path).ask()
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if b"handed_out" not in line]
    parameters = [index for index, line in enumerate(kept) if b"param_name" in line]
    path.write_bytes(b"".join(kept[: parameters[0] + 1]))
    assert open_study(path).ask() == whole


@pytest.mark.slow  # starts a process some ten times
def test_a_search_killed_again_and_again_is_the_same_search(tmp_path: Path) -> None:
    """Each process has its own hash seed, and is killed wherever it happens to be."""
    drive(tmp_path / "whole.journal", tmp_path / "whole.log", 0.0)
    path, log = tmp_path / "study.journal", tmp_path / "killed.log"
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; from pathlib import Path\n"
    code += f"import test_resume; test_resume.drive(Path({str(path)!r}), Path({str(log)!r}), 0.03)"
    num_kills = 0
    while True:
        known = len(lines(log))
        process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": str(num_kills)})
        while process.poll() is None and len(lines(log)) < known + 3:
            time.sleep(0.007)
        if process.poll() is not None:
            break
        time.sleep(0.011 * (num_kills % 5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        num_kills += 1
    assert process.returncode == 0
    assert num_kills >= 4
    handed_out = {number: assignment for number, assignment, _ in lines(log)}
    assert handed_out == {number: assignment for number, assignment, _ in lines(tmp_path / "whole.log")}
    resumed = [number for number, _, is_resumed in lines(log) if is_resumed]
    assert resumed
    records = open_study(path).trials
    assert sum(record.outcome == "finished" for record in records) == OPTIONS.num_trials
    assert {record.outcome for record in records} == {"finished", "infeasible"}
