"""Labelled sets in: texts with classes or scores, tagged texts, questions; whatever the layout of their files.

A new one is one file with a `LabelledOptions` class and one line in `LABELLED`.
"""

from reforge.corpora.labelled.example import Answer, Example, QuestionExample, TaggedExample, TextExample
from reforge.corpora.labelled.reader import Gives, LabelledFiles, LabelledOptions

__all__ = [
    "Answer",
    "Example",
    "Gives",
    "LabelledFiles",
    "LabelledOptions",
    "QuestionExample",
    "TaggedExample",
    "TextExample",
]
