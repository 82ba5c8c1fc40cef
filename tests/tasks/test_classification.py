"""Classification: options from YAML, bad sets, predictions and their scores, and that it learns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from tokenizers import Tokenizer

from reforge.corpora.labelled import LABELLED, TextExample
from reforge.heads import Outputs
from reforge.spec import Part, SpecError, UserError, load_source, validate
from reforge.tasks import AnyTask, RowSet, TaskModel
from reforge.tasks.classification import ClassificationOptions

NSMC = Path(__file__).parents[2] / ".." / "shared" / "data" / "nsmc" / "ratings_test.txt"
NAMES = ("bad", "good")


class Job(Part):
    task: AnyTask


def options(tmp_path: Path, text: str) -> ClassificationOptions:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    found = validate(Job, load_source(path, [])).task
    assert isinstance(found, ClassificationOptions)
    return found


def test_class_weights_from_yaml(tmp_path: Path) -> None:
    found = options(tmp_path, "task: {kind: classification, class_weights: {good: 2, '0': 0.5}, truncate: middle}")
    assert found.class_weights == {"good": 2.0, "0": 0.5}
    assert found.weights(("0", "bad", "good")) == (0.5, 1.0, 2.0)
    assert ClassificationOptions.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    "text",
    ["class_weights: {good: 0}", "class_weights: heavy", "label_smoothing: 1.0", "metric: spearman", "truncate: all"],
)
def test_options_that_cannot_be(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match=text.split(":")[0]):
        options(tmp_path, f"task: {{kind: classification, {text}}}")


def test_balanced_weights_are_settled_from_the_training_set(reviews: list[TextExample]) -> None:
    some = reviews[:4]
    settled = ClassificationOptions(class_weights="balanced").settle(some)
    assert settled.class_weights == {"bad": 2.0, "good": pytest.approx(2 / 3)}
    assert ClassificationOptions().settle(some) == ClassificationOptions()


def test_a_weight_for_no_class_is_said_with_the_nearest(reviews: list[TextExample]) -> None:
    with pytest.raises(UserError, match=r'task.class_weights: .* class "goood": bad, good; did you mean good\?'):
        ClassificationOptions(class_weights={"goood": 2.0}).labels(reviews)


def test_a_label_that_training_never_saw(reviews: list[TextExample], tokenizer: Tokenizer) -> None:
    task = ClassificationOptions().bind(ClassificationOptions().labels(reviews), tokenizer, 32)
    strange = [*reviews[:2], reviews[2]._replace(key="test.tsv:4", label="godo")]
    for use in (lambda: list(task.rows(strange)), lambda: task.score(strange, [None] * 3)):
        with pytest.raises(UserError, match=r'test.tsv:4: the label "godo" is none that training saw.*mean good\?'):
            use()


def test_the_task_says_what_it_needs(reviews: list[TextExample], tokenizer: Tokenizer) -> None:
    task = ClassificationOptions().bind(ClassificationOptions().labels(reviews), tokenizer, 32)
    assert task.outputs == Outputs(2, "text", NAMES)
    assert ClassificationOptions().goal == ("accuracy", "max")
    assert [int(row.extras["label"]) for row in task.rows(reviews[:6])] == [1, 1, 1, 0, 0, 0]


def test_predictions_scores_and_lines(
    reviews: list[TextExample], tokenizer: Tokenizer, tiny: Callable[..., TaskModel], guesses: Callable[..., list[Any]]
) -> None:
    task = ClassificationOptions().bind(NAMES, tokenizer, 32)
    predictions = guesses(task, tiny(task, "cnn"), reviews)
    assert all(sum(prediction.probabilities) == pytest.approx(1) for prediction in predictions)
    gold, guess = [e.label for e in reviews], [p.label for p in predictions]
    card = task.score(reviews, predictions)
    assert tuple(card.metrics) == task.metric_names == ClassificationOptions.metric_names
    assert card.metrics == pytest.approx(
        {"accuracy": accuracy_score(gold, guess), "macro_f1": f1_score(gold, guess, average="macro")}, abs=1e-9
    )
    line = json.loads(json.dumps(task.as_json(reviews[0], predictions[0]), ensure_ascii=False))
    assert list(line) == ["key", "text", "label", "probabilities", "gold"]
    assert line["probabilities"][line["label"]] == max(line["probabilities"].values())
    assert "gold" not in task.as_json(reviews[0]._replace(label=None), predictions[0])


def test_a_right_guess_is_not_bad_and_a_sure_wrong_one_the_worst(
    reviews: list[TextExample], tokenizer: Tokenizer
) -> None:
    task = ClassificationOptions().bind(NAMES, tokenizer, 32)
    digests = [[np.array(logits)] for logits in ([0.0, 3.0], [1.0, 0.0], [2000.0, 0.0])]
    right, wrong, sure = (
        task.verdict(reviews[0], prediction) for prediction in task.predict([reviews[0]] * 3, digests)
    )
    assert right == (0.0, reviews[0].text, "good", "good")
    assert wrong.badness == pytest.approx(np.log(1 + np.e))
    assert wrong.badness < sure.badness < np.inf
    assert (wrong.gold, wrong.guess) == ("good", "bad")


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize("head", ["linear", "cnn"])
def test_a_small_model_learns_32_texts_by_heart(
    head: str,
    reviews: list[TextExample],
    tokenizer: Tokenizer,
    tiny: Callable[..., TaskModel],
    guesses: Callable[..., list[Any]],
) -> None:
    examples = reviews[:32]
    task = ClassificationOptions().bind(NAMES, tokenizer, 32)
    model = tiny(task, head).train()
    rows = RowSet(task.rows(examples))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(80):
        inputs = model.collate(rows.read(rows.rows_at(1, step, 16), 1), 1)
        loss = model(**inputs.tensors).losses["loss"] / inputs.num_targets["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    assert task.score(examples, guesses(task, model, examples)).metrics["accuracy"] == 1.0


@pytest.mark.skipif(not NSMC.exists(), reason="../shared/data/nsmc is not there")
def test_real_reviews_become_rows(tokenizer: Tokenizer) -> None:
    examples = []
    for example in LABELLED["nsmc"](path=NSMC).read():  # type: ignore[call-arg]
        examples.append(example)
        if len(examples) == 2000:
            break
    names = ClassificationOptions().labels(examples)
    task = ClassificationOptions().bind(names, tokenizer, 32)
    rows = list(task.rows(examples))
    assert names == ("negative", "positive")
    assert len(rows) == 2000
    assert max(len(row.ids) for row in rows) == 32
    [note] = task.notes()
    assert "of 2,000 texts did not fit in 32 tokens" in note
