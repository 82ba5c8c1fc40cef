"""metrics.jsonl through a kill, a resume and damage."""

import json
import math
from pathlib import Path

import pytest

from reforge.spec import UserError
from reforge.tracking import MetricsLog, read_metrics


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "metrics.jsonl"


def write(path: Path, steps: range, loss: float, resume_step: int | None = None) -> None:
    with MetricsLog(path, resume_step) as log:
        for step in steps:
            log.write(step, {"train/loss": loss})


def steps(path: Path) -> list[float]:
    return [row["step"] for row in read_metrics(path)]


def test_rows_come_back_as_written(path: Path) -> None:
    with MetricsLog(path, None) as log:
        log.write(1, {"train/loss": 5.25, "train/tokens": 1024})
        log.write(1, {"valid/loss": 0.1 + 0.2})
    assert read_metrics(path) == [
        {"step": 1, "train/loss": 5.25, "train/tokens": 1024},
        {"step": 1, "valid/loss": 0.1 + 0.2},
    ]


def test_each_row_is_readable_before_the_log_is_closed(path: Path) -> None:
    log = MetricsLog(path, None)
    for step in (1, 2):
        log.write(step, {"train/loss": 1.0})
        assert steps(path) == list(range(1, step + 1))
    log.close()


def test_the_file_stays_json_where_a_number_is_not_finite(path: Path) -> None:
    with MetricsLog(path, None) as log:
        log.write(3, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {"step": 3, "a": None, "b": None, "c": None, "d": 1.5}
    (row,) = read_metrics(path)
    assert row["d"] == 1.5
    assert all(math.isnan(row[name]) for name in "abc")


def test_a_resumed_run_has_each_step_once(path: Path) -> None:
    write(path, range(1, 31), loss=1.0)
    write(path, range(21, 41), loss=2.0, resume_step=20)
    assert [(row["step"], row["train/loss"]) for row in read_metrics(path)] == [
        *((step, 1.0) for step in range(1, 21)),
        *((step, 2.0) for step in range(21, 41)),
    ]
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.jsonl"]


def test_nulls_live_through_a_resume(path: Path) -> None:
    write(path, range(1, 3), loss=math.nan)
    write(path, range(2, 3), loss=1.0, resume_step=1)
    assert json.loads(path.read_text().splitlines()[0]) == {"step": 1, "train/loss": None}


@pytest.mark.parametrize("torn", [b'{"step": 5, "train/lo', b"{", b'{"step": 5, "\xed\x95', b"\0\0\0\0", b"1"])
def test_a_last_line_cut_short_is_left_out_and_written_over(path: Path, torn: bytes) -> None:
    write(path, range(1, 5), loss=1.0)
    with path.open("ab") as file:
        file.write(torn)
    assert steps(path) == [1, 2, 3, 4]
    write(path, range(5, 7), loss=2.0, resume_step=4)
    assert steps(path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("damage", ["", "not json", "[1]", '{"loss": 1.0}', '{"step": 2, "loss": "low"}'])
def test_a_damaged_line_in_the_middle_is_named(path: Path, damage: str) -> None:
    write(path, range(1, 4), loss=1.0)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], damage, lines[2], ""]))
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a row of metrics"):
        MetricsLog(path, resume_step=3)
    assert path.read_text().splitlines()[2] == lines[2], "nothing was cut"


def test_a_run_from_the_beginning_keeps_no_old_row(path: Path) -> None:
    write(path, range(0, 4), loss=1.0)
    write(path, range(1, 2), loss=2.0)
    assert steps(path) == [1]


def test_a_metric_named_step_is_a_mistake_of_ours(path: Path) -> None:
    with MetricsLog(path, None) as log, pytest.raises(AssertionError):
        log.write(1, {"step": 2.0})
