"""The suite's table: means and spreads by hand, and what may be held against published scores."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from reforge.spec import SpecError
from reforge.tracking import Reference, References, ResultRow, load_references, write_table
from reforge.tracking.results_table import comparable

ROOT = Path(__file__).parents[2]
ROW = ResultRow("nsmc", "encoder-a", "accuracy", (0.80, 0.82, 0.84), 3725.0, 1000, 500, "test")
PUBLISHED = Reference(
    model="Some|BERT", metric="accuracy", score=90.5, source="someone/some", num_train=1000, scored_on="test"
)


def table(folder: Path, rows: list[ResultRow], *references: Reference) -> tuple[str, list[dict[str, str]]]:
    markdown = write_table(rows, References(sets={"nsmc": references}), folder)
    assert (folder / "results.md").read_text(encoding="utf-8") == markdown
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return markdown, list(csv.DictReader(file))


def test_mean_sample_deviation_and_sizes(tmp_path: Path) -> None:
    markdown, (ours, theirs) = table(tmp_path, [ROW], PUBLISHED)
    assert "| nsmc | encoder-a | accuracy | 82.00 ± 2.00 (3) | 1h02m | 1,000 | 500 (test) |" in markdown
    assert r"| Some\|BERT | accuracy | 90.50 | 1,000 | test | someone/some | yes |" in markdown
    assert float(ours["score"]) == pytest.approx(0.82)
    assert float(ours["sd"]) == pytest.approx(0.02)
    assert [float(score) for score in ours["scores"].split()] == [0.80, 0.82, 0.84]
    assert (theirs["origin"], theirs["score"], theirs["comparable"]) == ("published", "0.905", "yes")


def test_one_run_has_no_spread_and_a_set_may_have_no_published_score(tmp_path: Path) -> None:
    markdown, (ours,) = table(tmp_path, [replace(ROW, scores=(0.5,))])
    assert "| 50.00 (1) |" in markdown
    assert "Published" not in markdown
    assert ours["sd"] == ""


def test_nan_says_so(tmp_path: Path) -> None:
    markdown, (ours,) = table(tmp_path, [replace(ROW, scores=(0.5, math.nan))])
    assert "not a number: 1 of 2 runs have no score" in markdown
    assert math.isnan(float(ours["score"]))


@pytest.mark.parametrize(
    ("row", "reference", "verdict"),
    [
        (ROW, PUBLISHED, "yes"),
        (replace(ROW, num_train=900), PUBLISHED, "yes"),
        (replace(ROW, num_train=899), PUBLISHED, "no: another training set: 899 of its 1,000 examples here"),
        (replace(ROW, num_train=2000), PUBLISHED, "no: another training set: 2,000 of its 1,000 examples here"),
        (replace(ROW, scored_on="valid"), PUBLISHED, "no: another split: valid here"),
        (ROW, PUBLISHED.model_copy(update={"scored_on": "hidden test"}), "no: a hidden test set"),
        (replace(ROW, metric="macro_f1"), PUBLISHED, "no: another metric: macro_f1 here"),
        (
            replace(ROW, num_train=10, scored_on="valid"),
            PUBLISHED,
            "no: another split: valid here; another training set: 10 of its 1,000 examples here",
        ),
    ],
)
def test_what_is_comparable_and_why_not(row: ResultRow, reference: Reference, verdict: str) -> None:
    assert comparable(reference, [row]) == verdict


def test_any_figure_of_ours_that_is_alike_makes_it_comparable() -> None:
    assert comparable(PUBLISHED, [replace(ROW, metric="macro_f1"), replace(ROW, num_train=10), ROW]) == "yes"


def test_the_shipped_scores_are_sound() -> None:
    sets = load_references(ROOT / "jobs" / "specs" / "reference_scores.yaml").sets
    assert {"nsmc", "naver_ner", "korquad", "klue_ner", "korsts", "question_pair"} <= sets.keys()
    assert all(20 < reference.score < 100 for references in sets.values() for reference in references)
    assert all(len({(r.model, r.metric, r.source) for r in scores}) == len(scores) for scores in sets.values())


def test_mistakes_in_a_file_of_scores_have_lines(tmp_path: Path) -> None:
    path = tmp_path / "scores.yaml"
    path.write_text(
        "sets:\n  a:\n    - model: x\n      metric: acuracy\n      score: 190.0\n      source: y\n"
        "      num_train: 5\n      scored_on: test\n",
        encoding="utf-8",
    )
    with pytest.raises(SpecError) as error:
        load_references(path)
    assert "scores.yaml:4" in str(error.value)
    assert "accuracy" in str(error.value)
    assert "scores.yaml:5" in str(error.value)
