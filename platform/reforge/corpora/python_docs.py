"""Python's own documentation, from the interpreter that runs: megabytes of English and code without a download."""

import ast
import importlib
import importlib.util
import platform
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from reforge.corpora.corpus import Corpus, Document, Slice
from reforge.corpora.tally import Tally

_TOPICS = "pydoc_data.topics"
# Tests, other projects' code, and hundreds of generated tables are no documentation.
_LEFT_OUT = {
    "__pycache__", "config", "dist-packages", "encodings", "ensurepip", "idlelib", "idle_test", "lib2to3",
    "pydoc_data", "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip


class PythonDocs(Corpus):
    """The language reference's topics (`help("for")` shows them) and the standard library's docstrings."""

    kind: Literal["python_docs"] = "python_docs"

    def identity(self) -> dict[str, object]:
        return {**super().identity(), "python": f"{platform.python_implementation()} {platform.python_version()}"}

    def files(self) -> list[Path]:
        topics = stdlib() / "pydoc_data" / "topics.py"
        return [*([topics] if topics.is_file() else []), *modules(stdlib())]

    def file_names(self) -> list[str]:
        return [file.relative_to(stdlib()).as_posix() for file in self.files()]

    def whole(self) -> list[Slice]:
        return [Slice("python")]  # a few megabytes: one slice, although it is many files

    def read(self, slices: Sequence[Slice], tally: Tally) -> Iterator[Document]:
        yield from _topics(tally)
        for file in self.files():
            if file.parent.name != "pydoc_data":
                yield from _module(file, file.relative_to(stdlib()).as_posix(), tally)


def stdlib() -> Path:
    """Where the standard library of the interpreter that runs lies."""
    return Path(sysconfig.get_path("stdlib"))


def modules(folder: Path) -> list[Path]:
    """The modules below a folder of the standard library that are documented, in reading order."""
    root = stdlib()
    return sorted(file for file in folder.rglob("*.py") if not _LEFT_OUT.intersection(file.relative_to(root).parts))


def parsed(file: Path) -> ast.Module | None:
    """The syntax tree of a module, which is not run; None where this Python can't read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the library are not this user's business
            return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _topics(tally: Tally) -> Iterator[Document]:
    """The topics that `pydoc` serves; some distributions leave them out of a minimal Python."""
    if importlib.util.find_spec(_TOPICS.partition(".")[0]) is None:
        tally.drop("topics: not installed with this Python")
        return
    topics: dict[str, str] = importlib.import_module(_TOPICS).topics
    for name in sorted(topics):
        text = topics[name].strip()
        tally.keep(text)
        yield Document(f"topic {name}", text)


def _module(file: Path, name: str, tally: Tally) -> Iterator[Document]:
    tally.files += 1
    tree = parsed(file)
    if tree is None:
        tally.drop("module does not parse")
        return
    text = "\n\n".join(docstrings(tree))
    if text:
        tally.keep(text)
        yield Document(name, text)
    else:
        tally.drop("module without docstrings")


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Every docstring of a module in the order of its lines."""
    open_nodes: list[ast.AST] = [tree]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = (ast.get_docstring(node) or "").strip()
            if text:
                yield text
        # Expressions hold no definitions: only what has statements in it is worth looking into.
        open_nodes += [
            child
            for child in reversed(list(ast.iter_child_nodes(node)))
            if isinstance(child, ast.stmt | ast.ExceptHandler)
        ]
