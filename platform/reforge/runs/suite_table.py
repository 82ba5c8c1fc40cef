"""A suite's table: what each fine-tuning scored, beside published scores."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from reforge.runs.folder import storage_errors
from reforge.runs.members import Summary
from reforge.runs.store import writable
from reforge.runs.suite import SuiteJob, SuiteRun
from reforge.tracking import References, ResultRow, TensorBoardSink, load_references, write_table


def keep_table(suite: SuiteJob, finished: Sequence[tuple[SuiteRun, Summary]], beside: Path) -> str:
    """The table as Markdown; also written as results.md and results.csv, and into TensorBoard.

    beside: the folder of the suite's own file, for a file of published scores that is not found from here
    """
    references = References()
    if suite.references is not None:
        path = suite.references if suite.references.is_file() else beside / suite.references
        references = load_references(path)
    rows = [row for run, summary in finished for row in rows_of(run, summary)]
    with storage_errors(suite.folder), writable(suite.folder) as folder:
        table = write_table(rows, references, folder)
        board = TensorBoardSink(folder / "tensorboard", purge_step=None)
        board.text(0, "results", table)
        scores = {f"suite/{row.set_name}/{row.metric}/{row.encoder}": fmean(row.scores) for row in rows}
        board.scalars(0, {name: score for name, score in scores.items() if not math.isnan(score)})
        board.close()
    return table


def rows_of(run: SuiteRun, summary: Summary) -> list[ResultRow]:
    """A row for each of the task's metrics, on the test set where there is one."""
    members = list(summary.members.values())
    scored_on = "test" if members[0].num_examples["test"] else "valid"
    return [
        ResultRow(
            set_name=run.set_name,
            encoder=run.encoder,
            metric=metric,
            scores=tuple(member.metrics[f"{scored_on}/{metric}"] for member in members),
            seconds=summary.seconds / len(members),
            num_train=members[0].num_examples["train"],
            num_test=members[0].num_examples[scored_on],
            scored_on=scored_on,
        )
        for metric in run.job.task.metric_names
        if f"{scored_on}/{metric}" in members[0].metrics
    ]
