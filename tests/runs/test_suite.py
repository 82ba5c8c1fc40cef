"""The shipped suite and its published scores are sound."""

from pathlib import Path

import pytest

from reforge.runs.suite import SuiteJob
from reforge.spec import load_source, validate
from reforge.tracking import load_references

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "jobs" / "specs"


@pytest.mark.slow  # takes seconds
def test_the_suite_stands_for_every_task_from_the_encoder_and_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if not Path("../shared/data/nsmc").exists():
        pytest.skip("../shared/data is not here")
    path = FOLDER / "suite_korean.yaml"
    suite = validate(SuiteJob, load_source(path))
    runs = suite.jobs(path.parent)
    assert len(runs) == 2 * len(suite.finetunings)
    assert {run.job.encoder.weights for run in runs.values()} == {"run", "fresh"}
    assert {run.job.task.kind for run in runs.values()} == {
        "ner", "classification", "pair", "similarity", "question_answering",
    }  # fmt: skip
    assert all(run.job.folder.parent == suite.folder for run in runs.values())
    assert all(len(run.job.members()) == 3 for run in runs.values())


def test_published_scores_can_be_read() -> None:
    assert load_references(FOLDER / "reference_scores.yaml")
