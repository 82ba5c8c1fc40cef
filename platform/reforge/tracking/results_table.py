"""The table of a suite: our scores beside published ones, for people (Markdown) and for programs (CSV)."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from reforge.tracking.markdown import plain
from reforge.tracking.progress import duration
from reforge.tracking.references import Reference, References, ResultRow, differences
from reforge.tracking.whole_file import write_whole

LONGEST_CELL = 200
NOT_IN_PERCENT = ("loss", "mse")
OURS = ("set", "encoder", "metric", "score ± sd (runs)", "time", "training examples", "scored examples")
PUBLISHED = ("model", "metric", "score", "trained on", "scored on", "source", "comparable")
SCORE_COLUMNS = ("set", "origin", "name", "metric", "score", "sd", "scores", "seconds", "num_train", "num_scored")
CSV_COLUMNS = (*SCORE_COLUMNS, "scored_on", "source", "comparable")


def write_table(rows: Sequence[ResultRow], references: References, folder: Path) -> str:
    """Write results.md and results.csv into `folder` and return the Markdown.

    In Markdown scores and correlations are percentages, the spread is the sample standard deviation; the CSV has both
    as the metrics have them, between 0 and 1.
    """
    markdown = "\n".join(_markdown(rows, references)) + "\n"
    write_whole(folder / "results.md", markdown)
    write_whole(folder / "results.csv", _csv(rows, references))
    return markdown


def _markdown(rows: Sequence[ResultRow], references: References) -> Iterator[str]:
    yield "# Results\n"
    yield from _table(OURS, (_our_cells(row) for row in rows))
    for name in _set_names(rows):
        published = references.sets.get(name, ())
        if published:
            yield f"\n## Published scores of {plain(name, LONGEST_CELL)}\n"
            ours = [row for row in rows if row.set_name == name]
            yield from _table(PUBLISHED, (_published_cells(reference, ours) for reference in published))


def _set_names(rows: Sequence[ResultRow]) -> list[str]:
    return list(dict.fromkeys(row.set_name for row in rows))


def _table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield _line(header)
    yield _line(["---"] * len(header))
    for cells in rows:
        yield _line([plain(cell, LONGEST_CELL) for cell in cells])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _our_cells(row: ResultRow) -> list[str]:
    scored = f"{row.num_test:,} ({row.scored_on})"
    figures = [_summary(row), duration(row.seconds), f"{row.num_train:,}", scored]
    return [row.set_name, row.encoder, row.metric, *figures]


def _published_cells(reference: Reference, ours: Sequence[ResultRow]) -> list[str]:
    size = f" ({reference.parameters:g}M parameters)" if reference.parameters else ""
    note = f" ({reference.note})" if reference.note else ""
    figures = [f"{reference.score:.2f}", f"{reference.num_train:,}", reference.scored_on]
    verdict = comparable(reference, ours)
    return [reference.model + size, reference.metric, *figures, reference.source + note, verdict]


def comparable(reference: Reference, ours: Sequence[ResultRow]) -> str:
    """Whether any of our figures on a set may be held against a published one: "yes", or "no: " and why not."""
    alike = [row for row in ours if row.metric == reference.metric]
    reasons = sorted((list(differences(row, reference)) for row in alike or ours), key=len)[0]
    return f"no: {'; '.join(reasons)}" if reasons else "yes"


def _summary(row: ResultRow) -> str:
    """Mean, spread and number of runs, as "87.31 ± 0.42 (3)"."""
    runs = f"({len(row.scores)})"
    num_without = sum(math.isnan(score) for score in row.scores)
    if num_without or not row.scores:
        return f"not a number: {num_without} of {len(row.scores)} runs have no score"
    mean, spread = _shown(row.metric, _mean(row)), _spread(row)
    return f"{mean} {runs}" if spread is None else f"{mean} ± {_shown(row.metric, spread)} {runs}"


def _shown(metric: str, value: float) -> str:
    return f"{value:.4f}" if metric in NOT_IN_PERCENT else f"{100 * value:.2f}"


def _mean(row: ResultRow) -> float:
    return statistics.fmean(row.scores) if row.scores else math.nan


def _spread(row: ResultRow) -> float | None:
    """The sample standard deviation; None of a single run."""
    if any(math.isnan(score) for score in row.scores):
        return math.nan
    return statistics.stdev(row.scores) if len(row.scores) > 1 else None


def _csv(rows: Sequence[ResultRow], references: References) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for row in rows:
        spread = _spread(row)
        scores = " ".join(map(repr, row.scores))
        figures = [repr(_mean(row)), "" if spread is None else repr(spread), scores, row.seconds, row.num_train]
        table.writerow([row.set_name, "ours", row.encoder, row.metric, *figures, row.num_test, row.scored_on, "", ""])
    for name in _set_names(rows):
        ours = [row for row in rows if row.set_name == name]
        for reference in references.sets.get(name, ()):
            figures = [round(reference.score / 100, 6), "", "", "", reference.num_train, "", reference.scored_on]
            verdict = comparable(reference, ours)
            known = [name, "published", reference.model, reference.metric, *figures]
            table.writerow([*known, reference.source, verdict])
    return text.getvalue()
