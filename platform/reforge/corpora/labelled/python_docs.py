"""First sentences of Python's own documentation and the package that they are from: a labelled set on every machine.

installed standard library --syntax trees--> docstrings --first paragraph--> text; its package is the label
"""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from reforge.corpora.labelled.by_ending import table_in_file
from reforge.corpora.labelled.example import Example, TextExample
from reforge.corpora.labelled.reader import Gives, LabelledOptions, no_example
from reforge.corpora.python_docs import docstrings, modules, parsed, stdlib
from reforge.corpora.tally import Tally
from reforge.spec import UserError

# Those of many docstrings that are in every Python from 3.11 on and need no library of the system's.
_PACKAGES = ("asyncio", "email", "importlib", "logging", "unittest", "xml")
_MIN_CHARS = 20


class PythonDocs(LabelledOptions):
    """Some 1,500 first paragraphs of docstrings, in six classes; nothing is downloaded, nothing but read.

    Texts of less than 20 characters, repeated ones, and those of several packages are left out. A path given to `read`
    is a table with the columns `text` and `label`, in the form that its ending says.
    """

    kind: Literal["python_docs"] = "python_docs"
    gives: ClassVar[Gives] = "texts"

    def files(self, path: Path | None = None) -> list[Path]:
        if path is not None:
            return table_in_file(path).files()
        return [file for package in _PACKAGES for file in modules(stdlib() / package)]

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "python": f"{platform.python_implementation()} {platform.python_version()}"}

    def read(self, path: Path | None = None, labelled: bool = True, tally: Tally | None = None) -> Iterator[Example]:
        tally = Tally() if tally is None else tally
        if path is not None:
            yield from table_in_file(path).read(labelled=labelled, tally=tally)
            return
        examples = self._examples(tally)
        if not examples:
            raise UserError(no_example(f"the documentation in {stdlib()}", tally))
        for example in examples:
            tally.documents += 1
            yield example if labelled else example._replace(label=None)

    def _examples(self, tally: Tally) -> list[TextExample]:
        found: dict[str, TextExample] = {}
        of_several: set[str] = set()
        for file in self.files():
            tally.files += 1
            for example in _paragraphs(file):
                if len(example.text) < _MIN_CHARS:
                    tally.drop("short")
                elif (first := found.setdefault(example.text, example)) is not example:
                    tally.drop("repeated")
                    if first.label != example.label:
                        of_several.add(example.text)
        if of_several:
            tally.drop("of several packages", len(of_several))
        return [example for text, example in found.items() if text not in of_several]


def _paragraphs(file: Path) -> Iterator[TextExample]:
    """The first paragraph of every docstring in a module, on one line."""
    tree = parsed(file)
    name = file.relative_to(stdlib())
    for number, text in enumerate(docstrings(tree) if tree else (), 1):
        first = " ".join(text.partition("\n\n")[0].split())
        yield TextExample(f"{name.as_posix()}: docstring {number}", first, None, name.parts[0])
