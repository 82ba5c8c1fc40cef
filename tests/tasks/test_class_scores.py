"""The scores of classes agree with scikit-learn's own report on the same guesses."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from reforge.tasks.class_scores import class_scorecard

NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_scores_are_those_of_scikit_learn(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    gold, guess = (rng.integers(0, num_classes, 500) for _ in range(2))
    card = class_scorecard(gold.tolist(), guess.tolist(), NAMES)
    gold_names, guess_names = (np.array(NAMES)[found] for found in (gold, guess))
    assert card.metrics["accuracy"] == pytest.approx(accuracy_score(gold_names, guess_names), abs=1e-9)
    assert card.metrics["macro_f1"] == pytest.approx(f1_score(gold_names, guess_names, average="macro"), abs=1e-9)
    report = classification_report(gold_names, guess_names, labels=NAMES, output_dict=True, zero_division=0.0)
    for name in NAMES:
        expected = {key.replace("f1-score", "f1"): value for key, value in report[name].items()}
        assert card.per_class[name] == pytest.approx(expected, abs=1e-9)
    assert card.confusion is not None
    assert card.confusion.names == NAMES
    np.testing.assert_array_equal(card.confusion.counts, confusion_matrix(gold_names, guess_names, labels=NAMES))


def test_a_known_answer() -> None:
    card = class_scorecard([0, 0, 1, 1], [0, 1, 1, 1], ("a", "b"))
    assert card.metrics == {"accuracy": 0.75, "macro_f1": pytest.approx((2 / 3 + 0.8) / 2)}
    assert card.per_class["b"] == {
        "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2.0
    }  # fmt: skip
