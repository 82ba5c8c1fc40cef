"""What the tests of text tasks share: small texts, a tokenizer trained on them, a tiny model, and its predictions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from reforge.corpora.labelled import Example, TextExample
from reforge.heads import HEADS
from reforge.models import BACKBONES, Frame
from reforge.tasks import RowSet, Task, TaskModel
from reforge.tokenizers import TOKENIZERS

THINGS = ("soup", "bread", "tea", "cake", "국수", "떡", "rice", "jam")
PRAISE = ("was warm and lovely", "tasted wonderful today", "정말 맛있어요")
BLAME = ("was cold and awful", "tasted horrible today", "너무 짜서 별로예요")


@pytest.fixture(scope="session")
def reviews() -> list[TextExample]:
    """Single texts of two classes, 24 of each."""
    return [
        TextExample(f"reviews.tsv:{2 + number}", f"the {thing} {words}", None, label)
        for number, (thing, words, label) in enumerate(
            (thing, words, label)
            for thing in THINGS
            for label, said in (("good", PRAISE), ("bad", BLAME))
            for words in said
        )
    ]


@pytest.fixture(scope="session")
def pairs() -> list[TextExample]:
    """Pairs of texts of three classes, 8 of each."""
    seconds = (("entailment", "warm"), ("neutral", "for the guests"), ("contradiction", "cold"))
    return [
        TextExample(f"pairs.tsv:{2 + 3 * number + place}", f"the {thing} was warm", f"the {thing} is {words}", label)
        for number, thing in enumerate(THINGS)
        for place, (label, words) in enumerate(seconds)
    ]


@pytest.fixture(scope="session")
def scored() -> list[TextExample]:
    """Pairs of texts with scores from 0 to 5."""
    return [
        TextExample(f"scored.tsv:{2 + number}", f"{one} and {two}", f"{two} with {one}", float(number % 6))
        for number, (one, two) in enumerate(zip(THINGS, THINGS[::-1], strict=True))
    ]


@pytest.fixture(scope="session")
def tokenizer(reviews: list[TextExample]) -> Tokenizer:
    """A wordpiece vocabulary of the reviews."""
    return TOKENIZERS["wordpiece"](vocab_size=160).train([example.text for example in reviews])


@pytest.fixture(scope="session")
def tiny(tokenizer: Tokenizer) -> Callable[..., TaskModel]:
    """A function from a task to a freshly initialised model of it, in float32 and without dropout."""

    def build(task: Task, head: str = "linear", backbone: str = "transformer", **options: Any) -> TaskModel:
        torch.manual_seed(0)
        frame = Frame(tokenizer.get_vocab_size(), 64, num_segments=task.num_segments)
        body = BACKBONES[backbone](d_model=16, depth=2, num_heads=2).build(frame)
        return task.build(body, HEADS[head](dropout=0.0, **options).build(16, task.outputs))

    return build


@pytest.fixture(scope="session")
def guesses() -> Callable[..., list[Any]]:
    """A function that gives a model's predictions for examples, as the loop makes them."""

    def predict(task: Task, model: TaskModel, examples: Sequence[Example]) -> list[Any]:
        rows = RowSet(task.rows(examples, labelled=False))
        [(_, part)] = rows.parts(rows.all_indices, -1, 10**9)
        with torch.no_grad():
            _, outputs = model.eval().assess(**model.collate(rows.read(part, 0), 0).tensors)
        digests = [
            [task.digest(rows.row(place), {name: out.numpy()[place] for name, out in outputs.items()})]
            for place in np.argsort(rows.examples).tolist()
        ]
        return task.predict(examples, digests)

    return predict
