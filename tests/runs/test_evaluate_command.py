"""A finished run scored again: its own test set to the last digit, other files in other forms, and what cannot be."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reforge.runs import PretrainJob, pretrain
from reforge.runs.evaluate_command import evaluate_command


def test_its_own_test_set_scores_as_in_the_end_of_training(
    classes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_command([str(classes_run), "--out", str(tmp_path / "scores")]) == 0
    again = json.loads((tmp_path / "scores" / "metrics.json").read_text("utf-8"))["test"]["metrics"]
    result = json.loads((classes_run / "result.json").read_text("utf-8"))["metrics"]
    assert again == pytest.approx({name: result[f"test/{name}"] for name in again}, abs=1e-9)
    assert (tmp_path / "scores" / "predictions.jsonl").read_text("utf-8") == (
        classes_run / "predictions.jsonl"
    ).read_text("utf-8")
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {
        "metrics.json", "predictions.jsonl", "errors.md", "confusion.png", "classes.png",
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["examples", "accuracy", "macro_f1", "loss"]
    assert [line.split()[0] for line in lines[5:8]] == ["class", "bad", "good"]


@pytest.mark.slow  # takes seconds
@pytest.mark.parametrize("run", ["reader_run", "entities_run"])
def test_runs_of_other_tasks_too(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(run)
    assert evaluate_command([str(folder), "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "metrics.json").read_text("utf-8"))["test"]["metrics"]
    result = json.loads((folder / "result.json").read_text("utf-8"))["metrics"]
    assert again == pytest.approx({name: result[f"test/{name}"] for name in again}, abs=1e-9)


def test_the_same_texts_score_the_same_in_any_form(
    classes_run: Path, reviews_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [line.split("\t") for line in reviews_file.read_text("utf-8").splitlines()[1:]]
    other = tmp_path / "other.csv"
    with other.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["stars", "said"], *[[{"good": "5"}.get(label, "1"), text] for text, label in rows]]
        )
    assert evaluate_command([str(classes_run), "--data", str(reviews_file)]) == 0
    first = capsys.readouterr().out
    words = ["text=said", "label=stars", 'labels={"5": good, "1": bad}']
    assert evaluate_command([str(classes_run), "--data", str(other), "--kind", "csv", *words]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == first.splitlines()[1:]
    assert first.startswith("examples                 48 of reviews.tsv\n")
    renamed = tmp_path / "renamed.tsv"
    renamed.write_text(reviews_file.read_text("utf-8").replace("text\tlabel", "review\tlabel"), encoding="utf-8")
    assert evaluate_command([str(classes_run), "text=review", "--data", str(renamed)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == first.splitlines()[1:]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "none.tsv"], "none.tsv does not exist"),
        (["--kind", "tsv"], "--data FILE must say which file"),
        (["--data", "FILE", "--kind", "tvs"], "got tvs; did you mean tsv?"),
        (
            ["--data", "FILE", "--kind", "squad"],
            "the run's task, classification, takes texts; squad is a set of questions",
        ),
        (["--data", "FILE", "label"], "an option of the set must have the form key=value, got 'label'"),
        (["--data", "FILE", "lable=stars"], "lable"),
        (["--data", "FILE", "text=txt"], "there is no column 'txt'; did you mean text?"),
        (["--data", "FILE", "header=false"], "must be a column's number where there is no header"),
        (["--data", "FILE", "pair=label"], "this task takes single texts, and here is a pair"),
        (["--data", "FILE", "label=null"], "has no label"),
        (["--data", "FILE", "labels={bad: awful}"], 'the label "awful" is none that training saw: bad, good'),
        (["--data", "FILE", "--out", "/dev/null/x"], "--out: cannot write /dev/null/x"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_what_the_command_refuses(
    words: list[str], message: str, classes_run: Path, reviews_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(reviews_file) if word == "FILE" else word for word in words]
    assert evaluate_command([str(classes_run), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_runs_that_were_not_fine_tuned(
    tiny_job: Callable[..., PretrainJob], prepared_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tiny_job("name=not-finetuned", "train.max_steps=1", "scale.num_workers=1")
    pretrain(job, job.folder, prepared_folder, torch.device("cpu"))
    for folder, message in (
        (job.folder, "was pre-trained, not fine-tuned"),
        (tmp_path / "none", "there is no such run"),
    ):
        assert evaluate_command([str(folder)]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
