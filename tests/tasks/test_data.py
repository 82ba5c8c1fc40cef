"""The three sets of a fine-tuning."""

from itertools import combinations
from pathlib import Path

import pytest

from reforge.corpora.labelled import LABELLED
from reforge.spec import UserError
from reforge.tasks.data import Fold, LabelledData, Sets


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """100 texts of two classes, the first of them twice."""
    rows = [f"review number {number}\t{'good' if number % 2 else 'bad'}" for number in range(99)]
    path = tmp_path / "reviews.tsv"
    path.write_text("\n".join(["text\tlabel", rows[0], *rows]) + "\n", encoding="utf-8")
    return path


def data(path: Path, **options: object) -> LabelledData:
    return LabelledData.model_validate({"train": LABELLED["tsv"](path=path, text="text", label="label"), **options})  # type: ignore[call-arg]


def texts(sets: Sets) -> list[set[str]]:
    return [{example.text for example in part} for part in sets[:3]]  # type: ignore[union-attr]


def test_what_is_held_out_is_apart_and_of_its_size(file: Path) -> None:
    sets = Sets.read(data(file, valid_fraction=0.2, test_fraction=0.3))
    assert [len(part) for part in sets[:3]] == pytest.approx([50, 20, 30], abs=2)
    assert all(not one & other for one, other in combinations(texts(sets), 2))
    assert set.union(*texts(sets)) == {f"review number {number}" for number in range(99)}


def test_sets_that_are_given_are_taken_whole(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text("text\tlabel\na review\tgood\nanother\tbad\n", encoding="utf-8")
    given = LABELLED["tsv"](path=other, text="text", label="label")  # type: ignore[call-arg]
    sets = Sets.read(data(file, valid=given, test=given))
    assert [len(part) for part in sets[:3]] == [100, 2, 2]
    assert sets.notes == ["train: 100 examples", "valid: 2 examples", "test: 2 examples"]


def test_what_is_scored_and_trained_on_too_is_said(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text("text\tlabel\na review\tgood\nreview number 3\tbad\n", encoding="utf-8")
    given = LABELLED["tsv"](path=other, text="text", label="label")  # type: ignore[call-arg]
    assert Sets.read(data(file, test=given)).notes == [
        "train: 100 examples",
        "test: 2 examples",
        "test: 1 of 2 examples share a text with the training set",
    ]


def test_folds_hold_out_every_example_once(file: Path) -> None:
    folds = [Sets.read(data(file, fold=Fold(index=index, of=4))) for index in range(4)]
    held_out = [example.key for sets in folds for example in sets.test]
    assert len(held_out) == len(set(held_out)) == 100
    for sets in folds:
        assert all(not one & other for one, other in combinations(texts(sets), 2))
        assert len(sets.valid) == pytest.approx(7.5, abs=2)


def test_a_part_of_each_set_is_taken(file: Path) -> None:
    few = {"max_train_examples": 9, "max_valid_examples": 5, "max_test_examples": 3}
    whole, part = (Sets.read(data(file, valid_fraction=0.2, test_fraction=0.2, **limits)) for limits in ({}, few))
    assert [len(found) for found in part[:3]] == [9, 5, 3]
    assert all(set(some) <= set(everything) for some, everything in zip(part[:3], whole[:3], strict=True))


def test_sets_hang_on_their_own_seed(file: Path) -> None:
    one, same, other = (Sets.read(data(file, split_seed=seed)) for seed in (1, 1, 2))
    assert one == same
    assert one.valid != other.valid


def test_a_set_without_an_example_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_text("text\tlabel\na review\tgood\nanother\tbad\n", encoding="utf-8")
    with pytest.raises(UserError, match="data: no example is left for the valid set of 2 examples"):
        Sets.read(data(path))


def test_a_column_that_is_not_there_is_named_with_the_nearest(file: Path) -> None:
    wrong = LABELLED["tsv"](path=file, text="txt", label="label")  # type: ignore[call-arg]
    with pytest.raises(UserError, match="did you mean text"):
        list(wrong.read())
