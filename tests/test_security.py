"""What comes from outside is read as data: nothing that we load can bring code, and no name in it leads elsewhere."""

import ast
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from reforge.batches import open_prepared
from reforge.loop import Checkpoints, LoopState, restore
from reforge.loop.checkpoint import describe_file
from reforge.runs import PretrainJob, PretrainResult, RunFolder, pretrain
from reforge.runs.build import build_state
from reforge.runs.load import load
from reforge.spec import UserError, load_source, validate

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


def header(content: object, rest: bytes = b"") -> bytes:
    """A safetensors file: the header's length, the header, the tensors' bytes."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + rest


def tensor(shape: list[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


NO_JSON = [b"", b"[]", b"null", b'"x"', b"[" * 100_000, b"{}", b"\xff\xfe"]
LYING_TENSORS = [
    b"",
    b"\x80\x02cposix\nsystem\n",  # as a pickle begins
    struct.pack("<Q", 1 << 60) + b"{}",
    header(b"[" * 5000),
    header({"a": tensor([1 << 40], 0, 1 << 42)}),
    header({"a": tensor([2], 0, 4)}, b"1234"),
    header({"a": tensor([2], 100, 108)}, b"12345678"),
    header({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"1234"),
    header({"a": {**tensor([1], 0, 8), "dtype": "OBJECT"}}, b"12345678"),
]


def changed(file: Path, **values: object) -> bytes:
    """A JSON object with other values."""
    return json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}).encode()


@contextmanager
def crafted(file: Path, content: bytes) -> Iterator[None]:
    """Another content, as long as the context lasts."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


@pytest.fixture(scope="module")
def run(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> RunFolder:
    """A finished run with a checkpoint."""
    job = tiny_job("name=trusting", "train.max_steps=4")
    pretrain(job, job.folder, prepared_folder, torch.device("cpu"))
    return RunFolder(job.folder)


def test_a_crafted_run_is_refused(run: RunFolder) -> None:
    model, kind = json.loads(run.config.read_text())["model"], json.loads(run.config.read_text())["objective"]
    configs = [
        changed(run.config, model=1),
        changed(run.config, model={**model, "kind": "os.system"}),
        changed(run.config, model={**model, "d_model": -1}),
        changed(run.config, objective=[kind]),
        changed(run.config, vocab_size="many"),
        changed(run.config, vocab_size=10**15),
        changed(run.config, block_tokens=-5),
    ]
    files = [(run.config, NO_JSON + configs), (run.tokenizer, NO_JSON), (run.weights, LYING_TENSORS)]
    for file, contents in files:
        for content in contents:
            with crafted(file, content), pytest.raises(UserError, match=re.escape(file.parent.as_posix())):
                load(run.path)
    load(run.path)


def test_a_crafted_result_is_refused(run: RunFolder, tiny_job: Callable[..., PretrainJob]) -> None:
    job = tiny_job("name=trusting", "train.max_steps=4")
    results = [changed(run.result, step="x"), changed(run.result, samples=1)]

    def read() -> PretrainResult:
        assert run.status(job)
        return PretrainResult.from_json(run.read_result())

    for content in NO_JSON + results:
        with crafted(run.result, content), pytest.raises(UserError, match="is damaged, or not of this version"):
            read()
    for content in (b"a: !!python/object/apply:os.system ['exit']", b"a: &a [1, 1]\nb: *a\n", b""):
        with crafted(run.spec, content), pytest.raises(UserError, match=re.escape(f"{run.spec}")):
            run.status(job)


@pytest.fixture
def state(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> LoopState:
    job = tiny_job("name=trusting", "train.max_steps=4")
    return build_state(job, open_prepared(prepared_folder, job.data), torch.device("cpu"))


def test_a_checkpoint_crafted_with_its_manifest_is_refused(run: RunFolder, state: LoopState) -> None:
    """The manifest's digests are of what was crafted: it is complete, and yet nothing that we wrote."""
    newest = Checkpoints(run.checkpoints).newest_complete()
    assert newest is not None
    counters = newest / "state.json"
    states = [
        changed(counters, step=-1), changed(counters, best=[1, 2, 3]), changed(counters, seed=None),
        changed(counters, optimizer=[]), changed(counters, optimizer={"a": 1}), changed(counters, optimizer={"x/y": 1}),
    ]  # fmt: skip
    manifest = newest / "manifest.json"
    for file, contents in (
        (counters, NO_JSON + states),
        (newest / "model.safetensors", LYING_TENSORS),
        (newest / "optimizer.safetensors", LYING_TENSORS),
    ):
        for content in contents:
            with crafted(file, content):
                files = {**json.loads(manifest.read_bytes())["files"], file.name: describe_file(file)}
                with crafted(manifest, changed(manifest, files=files)):
                    assert Checkpoints(run.checkpoints).newest_complete() == newest
                    with pytest.raises(UserError, match=re.escape(str(newest))):
                        restore(state, newest)
    restore(state, newest)


def test_a_checkpoints_manifest_leads_nowhere_else(run: RunFolder, tmp_path: Path) -> None:
    newest = Checkpoints(run.checkpoints).newest_complete()
    assert newest is not None
    outside = tmp_path / "outside"
    outside.write_bytes(b"1234")
    elsewhere = [os.path.relpath(outside, newest), str(outside)]
    manifests = [json.dumps({"files": {name: describe_file(outside)}}).encode() for name in elsewhere]
    for content in [*NO_JSON, b'{"files": []}', b'{"files": {}}', b'{"files": {"a": 1}}', *manifests]:
        with crafted(newest / "manifest.json", content):
            said: list[str] = []
            assert Checkpoints(run.checkpoints, said.append).newest_complete() is None
            assert "manifest.json is missing or broken" in said[0]


def test_a_crafted_prepared_folder_is_refused(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> None:
    manifest, data = prepared_folder / "manifest.json", tiny_job().data
    splits = json.loads(manifest.read_text())["splits"]
    [one] = splits["train"]["sets"]
    name, blocks = one["files"][0]

    def files(*listed: object) -> bytes:
        return changed(manifest, splits={**splits, "train": {**splits["train"], "sets": [{**one, "files": listed}]}})

    manifests = [
        changed(manifest, sizes=[]),
        changed(manifest, sizes={"../../topics.txt": 1}),
        changed(manifest, splits={}),
        changed(manifest, vocab_size="many"),
        changed(manifest, block_tokens=7),
        files(["../../topics.txt", 1]),
        files([str(prepared_folder / name), blocks]),
        files([name, blocks + 1]),
        files([name, -1]),
        files([name, str(blocks)]),
        files(name),
    ]
    for file, contents in ((manifest, NO_JSON + manifests), (prepared_folder / "tokenizer.json", NO_JSON)):
        for content in contents:
            with crafted(file, content), pytest.raises(UserError, match=re.escape(str(prepared_folder))):
                open_prepared(prepared_folder, data)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "a/b", ".hidden", "", "a\nb"])
def test_the_name_of_a_run_is_no_path(name: str, tiny_overrides: list[str]) -> None:
    source = load_source(ROOT / "tests" / "tiny.yaml", [*tiny_overrides, f"name={json.dumps(name)}"])
    with pytest.raises(UserError, match="name"):
        validate(PretrainJob, source)
