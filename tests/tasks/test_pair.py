"""Pairs: which class f1 is of, and predictions on texts and their order."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score
from tokenizers import Tokenizer

from reforge.corpora.labelled import TextExample
from reforge.spec import UserError
from reforge.tasks import TaskModel
from reforge.tasks.class_task import ClassPrediction
from reforge.tasks.pair import PairOptions

NLI = ("contradiction", "entailment", "neutral")


def guessed(names: tuple[str, ...], count: int) -> list[ClassPrediction]:
    found = np.random.default_rng(0).integers(0, len(names), count)
    return [ClassPrediction(names[index], tuple(np.eye(len(names))[index].tolist())) for index in found]


def test_of_two_classes_f1_is_of_the_last_or_of_the_one_named(pairs: list[TextExample], tokenizer: Tokenizer) -> None:
    two = [pair for pair in pairs if pair.label != "neutral"]
    for options, positive in ((PairOptions(), "entailment"), (PairOptions(positive="contradiction"), "contradiction")):
        names = options.labels(two)
        task = options.bind(names, tokenizer, 32)
        predictions = guessed(names, len(two))
        card = task.score(two, predictions)
        expected = f1_score([e.label for e in two], [p.label for p in predictions], pos_label=positive)
        assert tuple(card.metrics) == task.metric_names == PairOptions.metric_names
        assert card.metrics["f1"] == pytest.approx(expected, abs=1e-9)


def test_of_three_classes_there_is_an_f1_only_of_the_one_named(pairs: list[TextExample], tokenizer: Tokenizer) -> None:
    task = PairOptions().bind(PairOptions().labels(pairs), tokenizer, 32)
    predictions = guessed(NLI, len(pairs))
    assert tuple(task.score(pairs, predictions).metrics) == task.metric_names == ("accuracy", "macro_f1")
    named = PairOptions(positive="neutral").bind(NLI, tokenizer, 32)
    expected = f1_score([e.label for e in pairs], [p.label for p in predictions], labels=["neutral"], average=None)
    assert named.score(pairs, predictions).metrics["f1"] == pytest.approx(expected[0], abs=1e-9)


def test_an_f1_of_nothing_is_said_before_training(pairs: list[TextExample]) -> None:
    with pytest.raises(UserError, match=r"task.metric: f1 of 3 classes needs task.positive, one of contradiction"):
        PairOptions(metric="f1").labels(pairs)
    with pytest.raises(UserError, match=r'task.positive: .* class "neutrl": .*did you mean neutral\?'):
        PairOptions(positive="neutrl").labels(pairs)


def test_a_prediction_names_both_texts(
    pairs: list[TextExample], tokenizer: Tokenizer, tiny: Callable[..., TaskModel], guesses: Callable[..., list[Any]]
) -> None:
    task = PairOptions().bind(NLI, tokenizer, 32)
    unknown = [pair._replace(label=None) for pair in pairs]
    predictions = guesses(task, tiny(task), unknown)
    line = json.loads(json.dumps(task.as_json(unknown[0], predictions[0])))
    assert list(line) == ["key", "text", "pair", "label", "probabilities"]
    assert list(line["probabilities"]) == list(NLI)
    assert task.verdict(pairs[0], predictions[0]).text == "the soup was warm / the soup is warm"


def test_the_order_of_the_texts_matters(
    pairs: list[TextExample], tokenizer: Tokenizer, tiny: Callable[..., TaskModel], guesses: Callable[..., list[Any]]
) -> None:
    task = PairOptions().bind(NLI, tokenizer, 32)
    turned = [TextExample(e.key, e.pair or "", e.text, None) for e in pairs[1:2]]
    model = tiny(task)
    [one], [other] = guesses(task, model, pairs[1:2]), guesses(task, model, turned)
    assert one.probabilities != other.probabilities
