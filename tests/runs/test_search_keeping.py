"""What people see of a search while it runs."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from reforge.runs.search_keeping import SearchKeeper
from reforge.runs.search_run import SearchRun
from reforge.search.study import Study
from reforge.tracking.trials_table import TrialsTable

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

SECTIONS = """\
metric: {name: valid/loss, mode: min}
space: {optimizer.lr: [1.0e-6, 1.0e-2]}
search: {num_trials: 2, points_to_evaluate: [{optimizer.lr: 1.0e-6}, {optimizer.lr: 1.0e-2}]}
"""


def test_the_table_shows_the_best_and_asks_the_storage_only_when_a_trial_has_ended(
    searching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched, log = searching(SECTIONS), io.StringIO()
    study = searched.study()
    with TrialsTable(log, clock=lambda: 0.0) as table:
        keeper = SearchKeeper(searched.options, searched.search.space, study, table)
        run = keeper.run = SearchRun(searched.search, study, watch=keeper)
        for _ in searched.moments(run):
            with monkeypatch.context() as patch:
                for name in ("best", "trials"):
                    patch.delattr(Study, name)
                keeper.show()
    told = log.getvalue()
    assert [line.split("  ")[0] for line in told.splitlines() if line.startswith("trial ")] == [
        "trial 0 started",
        "trial 0 finished",
        "trial 1 started",
        "trial 1 finished",
    ]
    assert "best: trial 1" in told.splitlines()[-1]
    rows = list(csv.DictReader((searched.options.folder / "trials.csv").open(encoding="utf-8")))
    assert rows[0]["outcome"] == "finished"
    assert [path.parent.name for path in searched.options.folder.glob("trials/*/checkpoints")] == ["0001"]
