"""trials.csv: every trial of a search as one row, for spreadsheets and pandas."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from reforge.search.options import MetricOptions
from reforge.search.records import TrialRecord
from reforge.search.values import values_of
from reforge.tracking import write_whole

_FIRST = ("number", "outcome", "is_free", "source")
_MIDDLE = ("num_reports", "seconds", "began", "ended")


def write_trials(path: Path, records: Sequence[TrialRecord], metrics: Sequence[MetricOptions]) -> None:
    """Writes a row a trial, draws that cost nothing (`is_free`) among them; whole or not at all.

    Columns: number, outcome, is_free, source, the metrics (of stopped trials what their reports make of them),
    num_reports, seconds, began and ended (ISO 8601, UTC), the searched paths, what else was measured, why.
    A path's value is JSON, text stands as it is unless it would be read as something else; an empty cell: the trial has
    not got it. Numbers have all their digits. In pandas: read_csv(path, keep_default_na=False) keeps the text "null".
    """
    paths = list(dict.fromkeys(path for record in records for path in record.assignment))
    facts = list(dict.fromkeys(name for record in records for name in record.facts))
    names = [metric.name for metric in metrics]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_told_apart([*_FIRST, *names, *_MIDDLE, *paths, *facts, "why"]))
    for record in records:
        table.writerow(map(_cell, _row(record, metrics, paths, facts)))
    write_whole(path, text.getvalue())


def _row(
    record: TrialRecord, metrics: Sequence[MetricOptions], paths: Sequence[str], facts: Sequence[str]
) -> Iterator[object]:
    yield from (record.number, record.outcome, int(record.is_free), record.source)
    yield from values_of(record, metrics) or [None] * len(metrics)
    yield from (len(record.intermediate), record.seconds, _utc(record.began), _utc(record.ended))
    yield from (_written(record.assignment[path]) if path in record.assignment else None for path in paths)
    yield from (record.facts.get(name) for name in facts)
    yield record.why


def _utc(time: datetime | None) -> str:
    """Optuna keeps the local time without its zone."""
    return "" if time is None else time.astimezone(UTC).isoformat()


def _written(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    try:
        json.loads(value)
    except ValueError:
        return value if value else '""'
    return json.dumps(value, ensure_ascii=False)  # the text "8", beside the number


def _cell(value: object) -> object:
    """What csv writes so that it is read back: it does not quote a lone carriage return, UTF-8 has no half letters."""
    if not isinstance(value, str):
        return value
    return value.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "backslashreplace").decode()


def _told_apart(names: Iterable[str]) -> list[str]:
    """The names, each of which stands once: what is measured may be called as another column is."""
    found: list[str] = []
    for name in names:
        while name in found:
            name = f"{name}'"
        found.append(name)
    return found
