"""What comes from outside is read as data: nothing that we load can bring code, and no name in it leads elsewhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Modules whose reading executes what the file says.
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "ctypes", "jsonpickle"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp", "shutil.unpack_archive",
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.ops.load_library",
    "numpy.load", "numpy.loadtxt", "numpy.fromfile", "pandas.read_pickle",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load",
}  # fmt: skip
METHODS = {"extractall", "extract"}  # of archives: their members name where they go
KEYWORDS = {"allow_pickle", "trust_remote_code", "weights_only", "shell"}

ALLOWED = {
    "platform/reforge/models/lsh_kernel.py: torch.ops.load_library",  # compiled here, from our own source
}


def dangers(source: str) -> Iterator[str]:
    """Every name in a module's source that stands for reading with a right to execute."""
    nodes = list(ast.walk(ast.parse(source)))
    meant: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            meant |= imported(node)
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (module for module in modules if module.partition(".")[0] in MODULES)
    for node in nodes:
        if isinstance(node, ast.Call):
            name = dotted(node.func, meant)
            if name in CALLS or (isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
                yield name
            yield from (keyword.arg for keyword in node.keywords if keyword.arg in KEYWORDS)


def imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """What the names mean that an import brings."""
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    tops = [alias.name.partition(".")[0] for alias in node.names]
    return {
        alias.asname or top: alias.name if alias.asname else top for alias, top in zip(node.names, tops, strict=True)
    }


def dotted(function: ast.expr, meant: dict[str, str]) -> str:
    """The full name of what is called: `np.load` is numpy.load where numpy was imported as np."""
    if isinstance(function, ast.Attribute):
        return f"{dotted(function.value, meant)}.{function.attr}"
    return meant.get(function.id, function.id) if isinstance(function, ast.Name) else "?"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import numpy as np\nnp.load('x')", "numpy.load"),
        ("from torch import load as l\nl('x')", "torch.load"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("eval('1')", "eval"),
        ("import yaml\nyaml.load(text, Loader)", "yaml.load"),
        ("tarfile.open('x').extractall()", "?.extractall"),
        ("datasets.load_dataset('x', trust_remote_code=True)", "trust_remote_code"),
        ("subprocess.run('x', shell=True)", "shell"),
    ],
)
def test_a_call_that_may_execute_is_found(source: str, found: str) -> None:
    assert list(dangers(source)) == [found]


def test_what_is_called_alike_is_none() -> None:
    assert list(dangers("import re, json\nre.compile('x')\njson.load(file)\nmodel.eval()\nstudy.load('x')")) == []


def test_nothing_that_we_load_can_execute() -> None:
    found = set()
    for file in sorted((ROOT / "platform").rglob("*.py")) + sorted((ROOT / "jobs").rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        found |= {f"{name}: {danger}" for danger in dangers(file.read_text(encoding="utf-8"))}
    assert found == ALLOWED
