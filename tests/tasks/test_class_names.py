"""Classes: their order, their weights, and labels that can't be."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from reforge.corpora.labelled import TextExample
from reforge.spec import UserError
from reforge.tasks.class_names import balanced_weights, class_indices, class_names


def examples(*labels: str | float | None) -> list[TextExample]:
    return [TextExample(f"set.tsv:{line}", "a text", None, label) for line, label in enumerate(labels, start=2)]


def test_numbers_come_by_value_and_names_by_letter() -> None:
    assert class_names(examples("10", "9", "-1", "2.5", "9")) == ("-1", "2.5", "9", "10")
    assert class_names(examples("10", "9", "b", "a")) == ("10", "9", "a", "b")
    assert class_names(examples("nan", "inf", "1")) == ("1", "inf", "nan")


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(UserError, match=r'all 2 training examples \(set.tsv:2 to set.tsv:3\) are of one class, "a"'):
        class_names(examples("a", "a"))


def test_a_class_that_training_never_saw_is_said_with_its_place_and_the_nearest() -> None:
    assert class_indices(examples("b", "a"), ("a", "b")) == [1, 0]
    with pytest.raises(UserError) as caught:
        class_indices(examples("positive", "positve"), ("negative", "positive"))
    assert str(caught.value) == (
        'set.tsv:3: the label "positve" is none that training saw: negative, positive; did you mean positive?'
    )
    with pytest.raises(UserError, match=r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more$"):
        class_indices(examples("x"), tuple(map(str, range(100))))


def test_scores_and_nothing_are_no_classes() -> None:
    with pytest.raises(UserError, match=r"set.tsv:3: its label 2.5 is a score.*task.kind: similarity"):
        class_names(examples("a", 2.5))
    with pytest.raises(UserError, match=r"set.tsv:2: has no label"):
        class_names(examples(None))


def test_balanced_weights_are_scikit_learns() -> None:
    labels = ["a"] * 7 + ["b"] * 2 + ["c"]
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=np.array(labels))
    assert list(balanced_weights(examples(*labels)).values()) == pytest.approx(expected, abs=1e-12)
