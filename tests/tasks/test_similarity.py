"""Similarity: scores in their own range, correlations as scipy's, and what is undefined."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from tokenizers import Tokenizer

from reforge.corpora.labelled import TextExample
from reforge.spec import UserError
from reforge.tasks import RowSet, TaskModel
from reforge.tasks.similarity import SimilarityOptions


def test_correlations_and_error_are_those_of_scipy_and_numpy(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(0)
    gold, guess = rng.integers(0, 26, 300) / 5, rng.normal(2.5, 1, 300)
    examples = [TextExample(f"s.tsv:{n}", "a", "b", float(score)) for n, score in enumerate(gold)]
    task = SimilarityOptions().bind((), tokenizer, 32)
    metrics = task.score(examples, guess.tolist()).metrics
    assert tuple(metrics) == task.metric_names == SimilarityOptions.metric_names
    assert metrics == pytest.approx(
        {
            "spearman": spearmanr(gold, guess).statistic,
            "pearson": pearsonr(gold, guess).statistic,
            "mse": np.mean((gold - guess) ** 2),
        },
        abs=1e-9,
    )
    assert task.notes() == []


@pytest.mark.filterwarnings("error")
def test_a_correlation_with_a_constant_is_0_and_said(scored: list[TextExample], tokenizer: Tokenizer) -> None:
    task = SimilarityOptions().bind((), tokenizer, 32)
    metrics = task.score(scored, [2.0] * len(scored)).metrics
    assert (metrics["spearman"], metrics["pearson"]) == (0.0, 0.0)
    assert metrics["mse"] > 0
    assert task.notes() == [
        "all predicted scores of a set were the same: its correlations are undefined, and reported as 0"
    ]


def test_predictions_come_back_in_the_range_of_the_scores(scored: list[TextExample], tokenizer: Tokenizer) -> None:
    task = SimilarityOptions(low=-1.0, high=5.0).bind((), tokenizer, 32)
    targets = [row.extras["score"] for row in task.rows(scored)]
    assert min(targets) == pytest.approx(1 / 6)
    assert max(targets) == 1
    digests = [[task.digest(row, {"score_B": row.extras["score"]})] for row in task.rows(scored)]
    assert task.predict(scored, digests) == pytest.approx([example.label for example in scored], abs=1e-6)
    assert task.predict(scored[:1], [[1.5]]) == [8.0]  # not clipped


def test_scores_that_cannot_be(scored: list[TextExample]) -> None:
    options = SimilarityOptions()
    assert options.labels(scored) == ()
    for label, says in (
        (7.5, r"bad.tsv:9: its score 7.5 is not between 0 \(task.low\) and 5 \(task.high\)"),
        ("same", r'bad.tsv:9: its label "same" is a class.*score: true.*kind: pair'),
        (None, "bad.tsv:9: has no score"),
    ):
        with pytest.raises(UserError, match=says):
            options.labels([*scored, TextExample("bad.tsv:9", "a", "b", label)])
    with pytest.raises(UserError, match=r"all 3 training examples .* have the score 1: there is nothing to tell apart"):
        options.labels([example._replace(label=1.0) for example in scored[:3]])


def test_the_goal_of_an_error_is_to_be_small() -> None:
    assert SimilarityOptions().goal == ("spearman", "max")
    assert SimilarityOptions(metric="mse").goal == ("mse", "min")
    assert SimilarityOptions(metric="loss").goal == ("loss", "min")
    assert [problem.path for problem in SimilarityOptions(low=5.0).problems()] == [("high",)]


def test_lines_and_verdicts(
    scored: list[TextExample], tokenizer: Tokenizer, tiny: Callable[..., TaskModel], guesses: Callable[..., list[Any]]
) -> None:
    task = SimilarityOptions().bind((), tokenizer, 32)
    predictions = guesses(task, tiny(task, "regression"), scored)
    line = json.loads(json.dumps(task.as_json(scored[1], predictions[1])))
    assert list(line) == ["key", "text", "pair", "score", "gold"]
    verdict = task.verdict(scored[1], 3.25)
    assert verdict == (2.25, f"{scored[1].text} / {scored[1].pair}", "1", "3.25")


@pytest.mark.slow  # trains for seconds
def test_a_small_model_learns_scores_by_heart(
    scored: list[TextExample], tokenizer: Tokenizer, tiny: Callable[..., TaskModel], guesses: Callable[..., list[Any]]
) -> None:
    task = SimilarityOptions().bind((), tokenizer, 32)
    model = tiny(task, "regression").train()
    rows = RowSet(task.rows(scored))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(150):
        inputs = model.collate(rows.read(rows.rows_at(1, step, 8), 1), 1)
        (model(**inputs.tensors).losses["loss"] / inputs.num_targets["loss"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    metrics = task.score(scored, guesses(task, model, scored)).metrics
    assert metrics["spearman"] > 0.9
    assert metrics["mse"] < 0.5
