"""Python's own documentation, read from the interpreter that runs the tests."""

import platform
from itertools import islice

import pytest

from reforge.corpora import Tally
from reforge.corpora.python_docs import PythonDocs


def test_topics_come_first() -> None:
    first = {document.name: document.text for document in islice(PythonDocs().documents(Tally()), 50)}
    assert len(first) == 50
    assert all(text == text.strip() != "" for text in first.values())
    assert first["topic assert"].startswith('The "assert" statement')


@pytest.mark.slow  # reads the whole standard library
def test_the_interpreter_that_runs_has_megabytes_of_documentation() -> None:
    corpus, tally = PythonDocs(), Tally()
    documents = list(corpus.documents(tally))
    names = [document.name for document in documents]
    assert len(set(names)) == len(names)
    assert all(document.text == document.text.strip() != "" for document in documents)
    assert tally.documents == len(documents) > 300
    assert tally.characters == sum(len(document.text) for document in documents) > 1_500_000
    by_name = {document.name: document.text for document in documents}
    assert by_name["topic for"].startswith('The "for" statement')
    # A module's own docstring comes first, then those of its classes and functions in the order of their lines.
    assert by_name["textwrap.py"].startswith("Text wrapping and filling.\n\nObject for wrapping/filling text.")
    assert not [name for name in names if {"test", "tests", "site-packages", "idlelib"} & set(name.split("/"))]
    assert platform.python_version() in str(corpus.identity()["python"])
