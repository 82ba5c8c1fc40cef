"""The arrow of the layers, held with the syntax tree: a module imports leftwards only, and only distributed/ knows Ray.

spec <- corpora <- tokenizers <- batches <- models <- {objectives | heads} <- tasks <- loop <- tracking <- search
     <- runs <- distributed <- jobs
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "reforge"
LAYERS = (
    {"spec"},
    {"corpora"},
    {"tokenizers"},
    {"batches"},
    {"models"},
    {"objectives", "heads"},
    {"tasks"},
    {"loop"},
    {"tracking"},
    {"search"},
    {"runs"},
    {"distributed"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
REGISTRIES = {
    "corpora": "CORPORA",
    "tokenizers": "TOKENIZERS",
    "models": "BACKBONES",
    "objectives": "OBJECTIVES",
    "heads": "HEADS",
    "tasks": "TASKS",
}
MODULES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a job or a module below platform/; a package keeps its `__init__`, so its parent is itself."""
    return ".".join(path.relative_to(PACKAGE.parent if path in MODULES else ROOT).with_suffix("").parts)


def imports(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of all that is imported anywhere in the tree.

    Functions and `if TYPE_CHECKING` count, and so do import_module("...") and __import__("..."). What is taken from a
    module is part of the name: `from reforge import spec` is "reforge.spec".
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                above = module.split(".")[:-level] if level else []
                base = [*above, *([source] if source else [])]
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in names)
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=[ast.Constant(str(name)), *_]):
                if called in ("import_module", "__import__"):
                    yield node.lineno, name


def violations(tree: ast.Module, module: str) -> list[str]:
    """What a module called "reforge.layer.file" (or a job, "jobs.file") may not import, as "line: why"."""
    own = module.split(".")[1] if module.startswith("reforge.") else "jobs"
    found = []
    for line, name in imports(tree, module):
        first, *rest = name.split(".")
        target = rest[0] if rest else ""
        if first == "ray" and own != "distributed":
            found.append(f"{line}: {own} imports ray; only distributed may")
        elif first == "jobs":
            found.append(f"{line}: {own} imports a job")
        elif first != "reforge" or own in ("jobs", target):
            continue
        elif own == "__init__":
            if target == "distributed":
                found.append(f"{line}: the package itself imports distributed, and with it ray")
        elif target not in RANK:
            found.append(f"{line}: {own} imports the package's front, {name}")
        elif RANK[target] >= RANK[own]:
            found.append(f"{line}: {own} imports {target}, against the arrow")
    return found


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """The package and the jobs, as long as these tests run: millions of objects, which would slow all others down."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in [*MODULES, *JOBS]}


# One test for all modules: a test of its own for each of hundreds takes longer than what it looks at.
def test_modules_import_leftwards_only_and_jobs_leave_ray_to_them(trees: dict[Path, ast.Module]) -> None:
    found = {name_of(path): violations(tree, name_of(path)) for path, tree in trees.items()}
    assert {name: why for name, why in found.items() if why} == {}


def test_modules_say_what_they_are_for(trees: dict[Path, ast.Module]) -> None:
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_every_folder_of_the_package_is_a_layer() -> None:
    assert {path.parent.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE} <= RANK.keys()


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("reforge.corpora.text", "from reforge.batches import Data", "1: corpora imports batches, against the arrow"),
        ("reforge.corpora.text", "import reforge.loop.steps as s", "1: corpora imports loop, against the arrow"),
        ("reforge.corpora.text", "from ..loop import steps", "1: corpora imports loop, against the arrow"),
        ("reforge.corpora.text", "from .. import loop", "1: corpora imports loop, against the arrow"),
        ("reforge.corpora.__init__", "from ..loop import steps", "1: corpora imports loop, against the arrow"),
        ("reforge.models.fast.lsh", "from ...heads import crf", "1: models imports heads, against the arrow"),
        (
            "reforge.corpora.text",
            "def f():\n    from reforge import loop",
            "2: corpora imports loop, against the arrow",
        ),
        ("reforge.spec.part", "if TYPE_CHECKING:\n    import reforge.runs", "2: spec imports runs, against the arrow"),
        ("reforge.heads.crf", "from reforge.objectives import mlm", "1: heads imports objectives, against the arrow"),
        ("reforge.objectives.mlm", "from reforge.heads import crf", "1: objectives imports heads, against the arrow"),
        ("reforge.runs.pretrain", "import reforge", "1: runs imports the package's front, reforge"),
        ("reforge.runs.pretrain", "from reforge import load", "1: runs imports the package's front, reforge.load"),
        ("reforge.loop.steps", "import ray", "1: loop imports ray; only distributed may"),
        ("reforge.loop.steps", "from ray.train import report", "1: loop imports ray; only distributed may"),
        ("reforge.loop.steps", "importlib.import_module('ray.tune')", "1: loop imports ray; only distributed may"),
        ("reforge.loop.steps", "__import__('reforge.runs')", "1: loop imports runs, against the arrow"),
        (
            "reforge.__init__",
            "from .distributed import train",
            "1: the package itself imports distributed, and with it ray",
        ),
        ("reforge.distributed.train", "import jobs.pretrain", "1: distributed imports a job"),
        ("jobs.pretrain", "import ray", "1: jobs imports ray; only distributed may"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, why: str) -> None:
    assert violations(ast.parse(source), module) == [why]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "reforge.batches.packing",
            "from reforge.corpora import Document\nfrom ..spec import Part\nfrom . import shards",
        ),
        ("reforge.tasks.ner", "from reforge.heads import crf\nfrom reforge.objectives import mlm"),
        ("reforge.distributed.train", "import ray\nfrom ray import train\nfrom reforge.runs import pretrain"),
        ("reforge.__init__", "from reforge.runs import load"),
        ("reforge.corpora.text", "import raylib\nimport array\nimport torch"),
        ("jobs.pretrain", "from reforge.distributed import pretrain"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    assert violations(ast.parse(source), module) == []


def registry_faults(layer: str, name: str) -> list[str]:
    """What keeps the registry from being plain data: a dict in `__init__.py` whose keys name kind, class and file."""
    tree = ast.parse((PACKAGE / layer / "__init__.py").read_text(encoding="utf-8"))
    written = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in map(ast.unparse, targets_of(node))
    ]
    if not written or not isinstance(written[0], ast.Dict):
        return [f"{layer}/__init__.py has no dict called {name}"]
    found = []
    for key, part in vars(importlib.import_module(f"reforge.{layer}"))[name].items():
        if part.__module__ != f"reforge.{layer}.{key}":
            found.append(f"{name}[{key!r}] stands in {part.__module__}, not in reforge.{layer}.{key}")
        kind = part.model_fields.get("kind")
        if kind is None or get_args(kind.annotation) != (key,):
            found.append(f"{name}[{key!r}] needs the field kind: Literal[{key!r}]")
    return found


def targets_of(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


@pytest.mark.parametrize(
    "layer", [layer for layer in REGISTRIES if (PACKAGE / layer / "__init__.py").exists()], ids=REGISTRIES.get
)
def test_a_registry_is_a_dict_whose_keys_are_its_files(layer: str) -> None:
    assert registry_faults(layer, REGISTRIES[layer]) == []
    assert vars(importlib.import_module(f"reforge.{layer}"))[REGISTRIES[layer]], "a registry has a first member"


def test_a_wrong_registry_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = importlib.import_module("reforge.corpora")
    wrong = {"wiki": corpora.CORPORA["kowiki"]}
    monkeypatch.setattr(corpora, "CORPORA", wrong)
    assert registry_faults("corpora", "CORPORA") == [
        "CORPORA['wiki'] stands in reforge.corpora.kowiki, not in reforge.corpora.wiki",
        "CORPORA['wiki'] needs the field kind: Literal['wiki']",
    ]
    assert registry_faults("corpora", "SOURCES") == ["corpora/__init__.py has no dict called SOURCES"]
