"""report.html: what a search found, as one page that opens without a network.

Study -- findings --> Findings --+-- importances, history, slices, ... --> Sections (pictures, notes) --+--> page
                                 +-- summary, trial table ----------------------------------------------+
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from reforge.search.options import MetricOptions
from reforge.search.report.contour import contour
from reforge.search.report.early_stopping import early_stopping
from reforge.search.report.findings import Findings, findings
from reforge.search.report.history import history
from reforge.search.report.importances import importances, measure
from reforge.search.report.page import Page, render
from reforge.search.report.parallel import parallel_coordinates
from reforge.search.report.pareto import pareto
from reforge.search.report.section import Section
from reforge.search.report.slices import slices
from reforge.search.report.summary import summarise
from reforge.search.report.timeline import timeline
from reforge.search.report.trial_table import trial_table
from reforge.search.study import Study
from reforge.tracking import write_whole

__all__ = ["write_report"]


def write_report(
    path: Path,
    study: Study,
    metrics: Sequence[MetricOptions],
    title: str,
    spec_text: str,
    resources: Mapping[str, float],
) -> None:
    """Writes the report of a study in any state: not begun, running, ended; whole or not at all.

    path: in the search's folder, whose size is part of the report
    title: the search's name
    spec_text: its YAML
    resources: what one trial holds while it runs, all of its workers together: {"cpus": 2, "gpus": 0.5}
    """
    now = datetime.now(UTC)
    found = findings(study, metrics)
    summary = summarise(found, resources, study.seconds_used, path.parent)
    page = Page(title, now, metrics, summary, _sections(found, now), trial_table(found), spec_text)
    write_whole(path, render(page))


def _sections(found: Findings, now: datetime) -> list[Section]:
    measured = {index: measure(found, index) for index in range(len(found.metrics))}
    return [
        history(found),
        importances(found, measured),
        parallel_coordinates(found),
        slices(found),
        contour(found, measured),
        early_stopping(found),
        timeline(found, now),
        pareto(found),
    ]
