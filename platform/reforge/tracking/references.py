"""Published scores, as a small YAML file has them, and which of ours may be held against them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from reforge.spec import Part, load_source, validate

MetricName = Literal["accuracy", "f1", "macro_f1", "char_f1", "spearman", "pearson", "exact_match"]
HELD_OUT = 0.1  # a share of the training set that may be missing, since it chose the weights; fewer is another task


class Reference(Part):
    """A published score.

    model: the model's name, as published
    metric: ours that is computed alike
    score: in percent
    source: the repository or paper that reports it
    num_train: examples of the whole training set, which the model was trained on
    scored_on: the set's published split; "hidden test" is one whose labels only its organisers have
    parameters: the model's, in millions, where the source says
    note: what else a reader should know
    """

    model: str
    metric: MetricName
    score: float = Field(ge=-100, le=100)
    source: str
    num_train: int = Field(ge=1)
    scored_on: Literal["test", "valid", "hidden test"]
    parameters: float | None = Field(None, gt=0)
    note: str | None = None


class References(Part):
    """A file of published scores.

    sets: the scores of each labelled set, by the name that suites give the set
    """

    sets: dict[str, tuple[Reference, ...]] = Field(default_factory=dict)


@dataclass(frozen=True)
class ResultRow:
    """A figure of ours.

    scores: of each seed or fold; nan where one has none
    seconds: that one of these runs took, on average
    num_train, num_test: examples trained on and scored, by each
    scored_on: the split, "test" or "valid"
    """

    set_name: str
    encoder: str
    metric: str
    scores: tuple[float, ...]
    seconds: float
    num_train: int
    num_test: int
    scored_on: str


def load_references(path: Path) -> References:
    """The published scores in a YAML file; raises SpecError with all that is wrong in it, each with its line."""
    return validate(References, load_source(path))


def differences(row: ResultRow, reference: Reference) -> Iterator[str]:
    """Why a figure of ours cannot be held against a published one; nothing where it can."""
    if reference.metric != row.metric:
        yield f"another metric: {row.metric} here"
    if reference.scored_on == "hidden test":
        yield "a hidden test set"
    elif reference.scored_on != row.scored_on:
        yield f"another split: {row.scored_on} here"
    if not (1 - HELD_OUT) * reference.num_train <= row.num_train <= reference.num_train:
        yield f"another training set: {row.num_train:,} of its {reference.num_train:,} examples here"
