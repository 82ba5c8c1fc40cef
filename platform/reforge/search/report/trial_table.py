"""The table of all trials, cell by cell, each with what it is sorted by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reforge.search.records import TrialRecord
from reforge.search.report.findings import Findings
from reforge.search.report.wording import worded
from reforge.search.values import values_of
from reforge.tracking.progress import duration

MOST_ROWS = 1000


@dataclass(frozen=True)
class Cell:
    """text: what is shown; key: what it is sorted by, a number where it is one."""

    text: str
    key: str


@dataclass(frozen=True)
class Row:
    """A trial. kind: its outcome; why, traceback: of what did not finish."""

    kind: str
    is_best: bool
    cells: Sequence[Cell]
    why: str
    traceback: str


@dataclass(frozen=True)
class TrialTable:
    """note: what was left out of the rows, "" where nothing was."""

    columns: Sequence[str]
    rows: Sequence[Row]
    note: str


def trial_table(found: Findings) -> TrialTable:
    """A row a trial; where they are very many, those first that cost something."""
    paths = list(dict.fromkeys(path for record in found.records for path in record.assignment))
    facts = list(dict.fromkeys(name for record in found.records for name in record.facts))
    order = sorted(found.records, key=lambda record: record.is_free)[:MOST_ROWS]
    best = {trial.number for trial in found.best}
    rows = [
        Row(
            record.outcome,
            record.number in best,
            [*_cells(found, record, paths, facts)],
            _why(record),
            record.traceback,
        )
        for record in sorted(order, key=lambda record: record.number)
    ]
    left_out = len(found.records) - len(rows)
    note = f"{left_out:,} more trials stand in trials.csv. " if left_out else ""
    columns = ["trial", "outcome", *(metric.name for metric in found.metrics), "reports", "time", *paths, *facts]
    return TrialTable(columns, rows, note)


def _cells(found: Findings, record: TrialRecord, paths: Sequence[str], facts: Sequence[str]) -> Iterator[Cell]:
    yield _cell(record.number)
    yield Cell(record.outcome + (", free" if record.is_free else ""), record.outcome)
    values = values_of(record, found.metrics)
    yield from (Cell(f"{value:.6g}", repr(value)) for value in values)
    yield from [Cell("", "")] * (len(found.metrics) - len(values))
    yield _cell(len(record.intermediate))
    yield Cell("", "") if record.seconds is None else Cell(duration(record.seconds), str(record.seconds))
    yield from (_of(record.assignment, path) for path in paths)
    yield from (_of(record.facts, name) for name in facts)


def _of(values: Mapping[str, object], name: str) -> Cell:
    return _cell(values[name]) if name in values else Cell("", "")


def _cell(value: object) -> Cell:
    text = worded(value)
    return Cell(text, repr(value) if isinstance(value, float) else text)


def _why(record: TrialRecord) -> str:
    if record.source is None:
        return record.why
    return f"equal to trial {record.source}" + (f" ({record.why})" if record.why else "")
