"""What a log file gets of a search, and what a terminal of a given width shows."""

import io
import os
import pty
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from reforge.tracking import SearchHead, TrialRow, TrialsTable
from reforge.tracking.trial_columns import fitting, short, short_names
from reforge.tracking.trials_table import SUMMARY_EVERY_SECONDS

PARAMETERS = {
    "optimizer.lr": "0.00031415926",
    "optimizer.weight_decay": "0.01",
    "head.kind": "cnn",
    "head.kernel_sizes": "[3, 4, 5]",
    "encoder.kind": "검색",
    "encoder.trainable_layers": "all",
}
HEAD = SearchHead("cnn-cls", ["valid/accuracy"], done=4, total=40, seconds=200.0, best=[1, 0], wasted=0.034)
ROWS = [
    TrialRow(0, "finished", PARAMETERS, 9, (0.5,), 125.0),
    TrialRow(1, "finished", PARAMETERS, 9, (0.8731,), 60.0),
    TrialRow(2, "pruned", PARAMETERS, 1, (0.25,), 20.0, why="below the median of the trials before it at report 1"),
    TrialRow(3, "failed", {}, why="ValueError: a\n  b\x1b[31m"),
    TrialRow(4, "running", PARAMETERS, 4, (0.7,), 80.0, 120, 400),
]


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def drawn(rows: Sequence[TrialRow], head: SearchHead, width: int, height: int = 40) -> list[str]:
    table = TrialsTable(io.StringIO(), Clock())
    table.update(rows, head)
    screen = io.StringIO()
    size = {"width": width, "height": height, "_environ": {}}
    Console(file=screen, force_terminal=True, color_system=None, **size).print(table)  # type: ignore[arg-type]
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_a_terminal_shows_what_runs_what_ended_and_the_best() -> None:
    lines = drawn(ROWS, HEAD, 150)
    assert lines[0] == "cnn-cls  4/40 trials  1 running  3m20s  3% of the compute wasted"
    assert lines[1].startswith("best: trial 1  accuracy 0.8731  lr 3.1e-04  weight_decay 0.01  head.kind cnn")
    heads, rows = lines[3].split(), [re.split(r" {2,}", line.strip()) for line in lines[5:] if line]
    names = ["lr", "weight_decay", "head.kind", "kernel_sizes", "encoder.kind", "trainable_layers"]
    assert heads == ["trial", "accuracy", "reports", "time", *names]
    values = ["3.1e-04", "0.01", "cnn", "[3, 4, 5]", "검색", "all"]
    assert rows == [
        ["4", "running", "0.7000", "4", "1m20s", *values, "step 120/400"],
        ["3", "failed", *"------", "ValueError: a b?[31m"],
        ["2", "pruned", "0.2500", "1", "20s", *values, rows[2][-1]],
        ["1", "finished", "0.8731", "9", "1m00s", *values],
        ["0", "finished", "0.5000", "9", "2m05s", *values],
        ["1", "best", "0.8731", "9", "1m00s", *values],
        ["0", "best", "0.5000", "9", "2m05s", *values],
    ]
    assert rows[2][-1].startswith("below the median")


@pytest.mark.parametrize("width", [3, 24, 40, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(ROWS, HEAD, width)
    assert max(map(cell_len, lines)) <= width
    assert width < 20 or len(lines) == len(drawn(ROWS, HEAD, 400)), "none is wrapped"


def test_eighty_columns_keep_the_reasons_and_the_first_parameter() -> None:
    lines = drawn(ROWS, HEAD, 80)
    assert lines[3].split()[:5] == ["trial", "accuracy", "reports", "time", "lr"]
    assert any("ValueError: a b?[31m" in line for line in lines)
    assert any(re.search(r"below the median of .*…$", line) for line in lines)


def test_more_trials_run_than_the_terminal_has_lines() -> None:
    many = [*ROWS, *(replace(ROWS[-1], number=number) for number in range(5, 69))]
    lines = drawn(many, replace(HEAD, total=100), 80, height=24)
    assert len(lines) < 24
    shown = sum(" running " in line for line in lines[3:])
    assert shown >= 2
    assert lines[-1] == f"and {65 - shown} more that run"


def test_several_metrics_have_columns_of_their_own_and_a_front() -> None:
    head = replace(HEAD, metrics=["valid/accuracy", "valid/loss"], best=[0, 1])
    lines = drawn([replace(row, values=(*row.values, 1.25)) for row in ROWS if row.values], head, 100)
    assert lines[1] == "best: a front of 2 trials"
    assert lines[3].split()[:3] == ["trial", "accuracy", "loss"]
    assert "1.2500" in lines[5]


def test_before_the_first_trial_there_is_a_line() -> None:
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, width=80).print(TrialsTable(io.StringIO()))
    assert screen.getvalue().strip() == "waiting for the first trial"
    assert drawn([], replace(HEAD, done=0, seconds=0.0, best=(), wasted=None), 80) == [
        "cnn-cls  0/40 trials  0 running  0s"
    ]


def log_of(updates: Sequence[tuple[float, Sequence[TrialRow], SearchHead]]) -> list[str]:
    """Lines of a search that is updated at the given seconds."""
    stream, clock = io.StringIO(), Clock()
    with TrialsTable(stream, clock) as table:
        for second, rows, head in updates:
            clock.seconds = 100.0 + second
            table.update(rows, replace(head, seconds=second))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", stream.getvalue())
    return stream.getvalue().splitlines()


def test_a_log_tells_once_that_a_trial_starts_and_how_it_ends() -> None:
    running = [replace(row, status="running", why="") for row in ROWS]
    empty = replace(HEAD, done=0, best=(), wasted=None)
    lines = log_of([(0, [], empty), (1, running, empty), (2, running, empty), (3, ROWS, HEAD), (4, ROWS, HEAD)])
    facts = (
        "lr 3.1e-04  weight_decay 0.01  head.kind cnn  kernel_sizes [3, 4, 5]  encoder.kind 검색  trainable_layers all"
    )
    started = [f"trial {number} started" + (f"  {facts}" if number != 3 else "") for number in range(5)]
    assert lines == [
        "cnn-cls  0/40 trials  0 running  0s",
        *started,
        "trial 0 finished  accuracy 0.5000  9 reports  2m05s",
        "trial 1 finished  accuracy 0.8731  9 reports  1m00s",
        "trial 2 pruned  accuracy 0.2500  1 report  20s  below the median of the trials before it at report 1",
        "trial 3 failed  ValueError: a b?[31m",
        "cnn-cls  4/40 trials  1 running  4s  36s left  3% of the compute wasted  best: trial 1  accuracy 0.8731",
    ]


def test_a_log_has_a_summary_now_and_then_and_none_of_what_had_ended_before() -> None:
    lines = log_of([(second, ROWS, HEAD) for second in range(0, 61)])
    assert lines[0].startswith("trial 4 started")
    assert [line.split("  ")[3] for line in lines[1:]] == ["0s", "15s", "30s", "45s", "1m00s"]
    assert SUMMARY_EVERY_SECONDS == 15.0


def test_time_left_goes_by_the_trials_of_this_start_and_by_the_budget() -> None:
    later = replace(HEAD, done=6, best=())
    assert "  1m42s left" in log_of([(100, [], HEAD), (106, [], later)])[-1], "34 trials of 3 s"
    assert "  54s left" in log_of([(100, [], HEAD), (106, [], replace(later, budget_seconds=160.0))])[-1]
    assert "left" not in log_of([(100, [], HEAD)])[0], "no trial has ended here yet"
    assert "  0s left" in log_of([(100, [], replace(HEAD, done=40))])[-1]


def test_say_stands_between_the_lines_of_a_log() -> None:
    stream = io.StringIO()
    with TrialsTable(stream, Clock()) as table:
        table.update([], HEAD)
        table.say("저장: 1.2 GiB [best]")
    assert stream.getvalue().splitlines()[1] == "저장: 1.2 GiB [best]"


def test_a_real_terminal_is_drawn_in_place_and_keeps_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    screen, keyboard = pty.openpty()
    with os.fdopen(keyboard, "w") as stream:
        with TrialsTable(stream, Clock()) as table:
            table.update(ROWS, HEAD)
            table.say("disk: 1.2 GiB [best]")
        text = b""
        while b"\x1b[?25h" not in text:  # the cursor is shown again
            text += os.read(screen, 1 << 16)
    os.close(screen)
    assert b"\x1b[1A" in text, "it moves up over what it drew"
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text.decode())
    assert "waiting for the first trial" in plain
    assert "disk: 1.2 GiB [best]" in plain
    assert plain.rindex("step 120/400") < plain.rindex(" best ")


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("0.00031415926", "3.1e-04"),
        ("0.30000000000000004", "0.3"),
        ("-1.5e-10", "-1.5e-10"),
        ("123456789", "1.2e+08"),
        ("512", "512"),
        ("[3,\n 4]", "[3, 4]"),
        ("a\x1b[0m\tb", "a?[0m b"),
        ("nan", "nan"),
        ("infinity", "infinity"),
        ("", ""),
    ],
)
def test_labels_are_short_and_on_one_line(label: str, shown: str) -> None:
    assert short(label) == shown


def test_a_name_is_the_last_part_and_what_tells_it_from_others() -> None:
    assert short_names(["optimizer.lr", "head.kind", "encoder.kind", "a.b.kind", "c.b.kind", "kind"]) == {
        "optimizer.lr": "lr",
        "head.kind": "head.kind",
        "encoder.kind": "encoder.kind",
        "a.b.kind": "a.b.kind",
        "c.b.kind": "c.b.kind",
        "kind": "kind",
    }
    assert short_names(["valid/accuracy", "test/accuracy", "valid/loss"]) == {
        "valid/accuracy": "valid.accuracy",
        "test/accuracy": "test.accuracy",
        "valid/loss": "loss",
    }
    assert short_names([]) == {}


def test_no_column_where_there_is_no_room_for_any() -> None:
    assert fitting([], 80) == []
