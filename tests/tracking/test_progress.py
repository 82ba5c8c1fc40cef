"""What a log file gets, and what a terminal of a given width shows."""

import io
import os
import pty
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from reforge.tracking.progress import Progress, duration


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def log_of(total: int, start_step: int, ends: list[tuple[int, float]]) -> list[str]:
    """Lines of a run whose steps end at the given seconds after its start."""
    stream, clock = io.StringIO(), Clock()
    with Progress(total, stream, start_step, clock) as progress:
        for step, second in ends:
            clock.seconds = 100.0 + second
            progress.update(step, loss=5.4321, tokens_per_second=12345.4, lr=9.8e-4)
    return stream.getvalue().splitlines()


def test_a_log_has_the_first_and_the_last_step_and_a_line_every_ten_seconds() -> None:
    lines = log_of(400, 0, [(step, 8 + step * 0.5) for step in range(1, 401)])
    assert lines[0] == "step 1/400  loss 5.432  lr 9.8e-04  12,345 tokens/s"
    assert lines[1] == "step 21/400  loss 5.432  lr 9.8e-04  12,345 tokens/s  3m10s left"
    assert lines[-1] == "step 400/400  loss 5.432  lr 9.8e-04  12,345 tokens/s  done in 3m28s"
    assert len(lines) == 21
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(lines))


def test_a_log_ends_with_the_last_step_of_a_run_that_stops_early() -> None:
    lines = log_of(400, 0, [(1, 1), (2, 2), (3, 3)])
    assert [line.split("  ")[0] for line in lines] == ["step 1/400", "step 3/400"]


def test_a_run_without_a_step_leaves_no_line() -> None:
    assert log_of(400, 0, []) == []


def test_time_left_of_a_resumed_run_goes_by_the_steps_done_here() -> None:
    lines = log_of(400, 300, [(301, 60), (302, 62), (322, 102)])
    assert lines[-1].endswith("2m36s left"), "78 steps of 2 s; not by the start, not by the 300 steps before"


def test_a_start_that_is_told_later_counts() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(100, stream, clock=clock) as progress:
        progress.update(30, 5.0, 100.0, 1e-3)
        progress.start_step = 20  # the workers began again from their checkpoint
        for step in (21, 31):
            clock.seconds += 20
            progress.update(step, 5.0, 100.0, 1e-3)
    assert progress.start_step == 20
    assert stream.getvalue().splitlines()[-1].endswith("2m18s left"), "69 steps of 2 s"


def test_time_left_goes_by_the_last_ten_minutes() -> None:
    fast = [(step, step * 1.0) for step in range(1, 1001)]
    slow = [(1000 + step, 1000 + step * 10.0) for step in range(1, 71)]
    assert log_of(1170, 0, fast + slow)[-1].endswith("16m40s left"), "100 steps of 10 s"


def test_steps_done_again_after_a_lost_worker_are_told_anew() -> None:
    lines = log_of(100, 0, [(1, 1), (30, 30), (21, 60), (22, 62), (32, 82)])
    assert [line.split("  ")[0] for line in lines] == ["step 1/100", "step 30/100", "step 21/100", "step 32/100"]
    assert "left" not in lines[2]
    assert lines[3].endswith("2m16s left"), "68 steps of 2 s"


def test_say_stands_between_the_lines_of_a_log() -> None:
    stream = io.StringIO()
    with Progress(2, stream) as progress:
        progress.update(1, 5.0, 100.0, 1e-3)
        progress.say("검증: loss [5.1]")
        progress.update(2, 4.0, 100.0, 1e-3)
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == [
        "step 1/2",
        "검증: loss [5.1]",
        "step 2/2",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (80, "1m20s"), (3599.9, "1h00m"), (7500, "2h05m"), (273600, "3d04h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal:
    """The far side of a pseudo-terminal; its buffer holds the few lines a test draws."""

    def __init__(self) -> None:
        self._screen, keyboard = pty.openpty()
        self.stream: TextIO = os.fdopen(keyboard, "w")

    def text(self) -> str:
        """Everything drawn so far; the kernel hands it over in pieces, so a mark tells where it ends."""
        self.stream.write("<end>")
        self.stream.flush()
        screen = b""
        while not screen.endswith(b"<end>"):
            screen += os.read(self._screen, 1 << 16)
        return screen.decode().removesuffix("<end>")

    def close(self) -> None:
        self.stream.close()
        os.close(self._screen)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Terminal]]:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    opened: list[Terminal] = []

    def open_terminal(columns: int) -> Terminal:
        monkeypatch.setenv("COLUMNS", str(columns))  # the window of a test run may be any size, or none
        opened.append(Terminal())
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def drawn(terminal: Terminal, resume: int = 0) -> list[str]:
    """Each state of the bar and each line above it, without the control sequences."""
    with Progress(400, terminal.stream, resume, Clock()) as progress:
        progress.update(resume + 1, 5.4321, 12345.4, 9.8e-4)
        progress.say("validation: loss [5.1]")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.text())
    return [line.strip() for line in re.split(r"\x1b\[[?0-9;]*[A-Za-z]|[\r\n]+", plain) if line.strip()]


def test_a_terminal_shows_a_bar_that_fills_its_width(terminal: Callable[[int], Terminal]) -> None:
    lines = drawn(terminal(90), resume=199)
    assert "validation: loss [5.1]" in lines
    assert lines[0].startswith("199/400 ━")
    assert lines[0].endswith("waiting for the first step")
    assert re.fullmatch(r"200/400 [━╸╺]+  loss 5\.432  lr 9\.8e-04  12,345 tokens/s", lines[-1])
    assert 87 <= len(lines[-1]) <= 90


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (56, r"1/400 [━╸╺]{12,}  loss 5\.432  12,345 tokens/s"),
        (40, r"1/400 [━╸╺]{12,}  loss 5\.432"),
        (24, r"1/400  loss 5\.432"),
        (12, r"1/400  loss…"),
    ],
)
def test_a_narrow_terminal_never_wraps(terminal: Callable[[int], Terminal], columns: int, shown: str) -> None:
    lines = drawn(terminal(columns))
    assert re.fullmatch(shown, lines[-1])
    assert len(lines[-1]) <= columns


def test_a_dumb_terminal_gets_the_lines_of_a_log(
    terminal: Callable[[int], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert drawn(terminal(80)) == [
        "step 1/400  loss 5.432  lr 9.8e-04  12,345 tokens/s",
        "validation: loss [5.1]",
    ]


def test_output_on_its_way_into_a_file_is_not_drawn_on_the_terminal(
    terminal: Callable[[int], Terminal], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = terminal(80)
    with (tmp_path / "out.txt").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with Progress(400, screen.stream):
            print("result")
    assert (tmp_path / "out.txt").read_text() == "result\n"
    assert "result" not in screen.text()
