"""metrics.jsonl: every reported number of a run, one JSON object a line.

    {"step": 20, "train/loss": 5.4321, "train/lr": 0.001}

A number that JSON cannot hold (nan, an infinity) stands as null and is read back as nan.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from reforge.spec import UserError


class MetricsLog:
    """Appends rows to `path`; each is on its way to the disk before `write` returns, so a killed run loses none.

    `resume_step` is the step of the checkpoint the run goes on from: rows beyond it are cut, since their steps are done
    again. None is a run from the beginning, and cuts every row. The cut replaces the file in one move: a run killed
    meanwhile finds the old file or the new one. Raises UserError where a row in the middle of the file is damaged.
    """

    def __init__(self, path: Path, resume_step: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            kept = [] if resume_step is None else [row for row in read_metrics(path) if row["step"] <= resume_step]
            _replace(path, kept)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; several rows may share a step."""
        assert "step" not in values, "a metric cannot be called 'step'"
        self._file.write(_line({"step": step, **values}))

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows in the order they were written, each with "step"; a last line cut short by a kill is left out.

    Raises UserError where any other line is not a row.
    """
    lines = path.read_bytes().splitlines()
    rows = [_row(line) for line in lines]
    for number, row in enumerate(rows[:-1], start=1):
        if row is None:
            raise UserError(f"{path}:{number}: not a row of metrics (a JSON object of numbers with a step)")
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # neither JSON nor, it may be, UTF-8
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    numbers = {name: math.nan if value is None else value for name, value in row.items()}
    return numbers if all(isinstance(value, int | float) for value in numbers.values()) else None


def _line(row: Mapping[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _replace(path: Path, rows: list[dict[str, float]]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(_line(row) for row in rows)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
