"""What a labelled set is made of, by the form of its answers: whole texts, tags in a text, questions about a text.

`key` says where an example stands in its source ("ratings_test.txt:12", a question's id): messages, predictions and
error lists name it. What is not known (a set to be predicted) is None.
"""

from typing import NamedTuple


class TextExample(NamedTuple):
    """A text, or a pair of texts, and its class or score.

    label: a class's name, or a number where the set has scores
    """

    key: str
    text: str
    pair: str | None
    label: str | float | None


class TaggedExample(NamedTuple):
    """A text cut into units, which are words or single characters, and a tag for each.

    units: [start, end) of each in characters of the text, in order, without overlap; what lies between is not tagged
    tags: IOB2 ("B-PER", "I-PER", "O"), whatever the scheme of the file
    """

    key: str
    text: str
    units: tuple[tuple[int, int], ...]
    tags: tuple[str, ...] | None


class Answer(NamedTuple):
    """A stretch of a context that answers a question; `start` counts characters of the context."""

    text: str
    start: int


class QuestionExample(NamedTuple):
    """A question about a context.

    answers: all that count as right; () where the context has none; None where they are not known
    group: what is never divided between training and validation (the article)
    """

    key: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None
    group: str


Example = TextExample | TaggedExample | QuestionExample
