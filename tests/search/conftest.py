"""Spaces from YAML text, over a fine-tuning of reviews and a pre-training that need no files to be there."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.search.compilation import Search, compile_search
from reforge.spec import Part, SpecError, load_source

BASES = {
    "finetune.yaml": """\
kind: finetune
name: reviews
task: {kind: classification}
head: {kind: cnn, num_filters: 100, dropout: 0.3}
model: {kind: reformer, d_model: 64, depth: 2, num_heads: 4}
tokenizer: {kind: wordpiece, vocab_size: 300}
data: {train: {kind: tsv, path: rows.tsv, text: text, label: label}, block_tokens: 64}
""",
    "pretrain.yaml": """\
kind: pretrain
name: texts
data: {corpus: {kind: text, path: texts.txt}, block_tokens: 64, valid_fraction: 0.1}
tokenizer: {kind: wordpiece, vocab_size: 300}
model: {kind: reformer, d_model: 64, depth: 2, num_heads: 4}
objective: {kind: mlm}
train: {max_steps: 10, global_batch_tokens: 256}
""",
}


class SearchOptions(Part):
    """What else stands in the file of a search; the real ones are the business of runs/."""

    kind: Literal["tune"]
    name: str
    metric: str = "valid/loss"


Compile = Callable[..., Search[Part, SearchOptions]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the base specs and what they read."""
    monkeypatch.chdir(tmp_path)
    for name, text in BASES.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("texts.txt").write_text("a text about the weather\n\nanother one\n" * 20, encoding="utf-8")
    Path("rows.tsv").write_text("text\tlabel\n" + "a fine film\tgood\na dull film\tbad\n" * 20, encoding="utf-8")
    return tmp_path


@pytest.fixture
def compiled(folder: Path) -> Compile:
    """The lines of `space:`, constraints, overrides -> what compile_search makes of them over a base."""

    def read(space: str, *constraints: str, base: str = "finetune", overrides: tuple[str, ...] = ()) -> object:
        text = f"kind: tune\nname: search\nextends: {base}.yaml\nspace:\n{space.rstrip()}\n"
        text += "".join(["constraints:\n", *(f'  - "{each}"\n' for each in constraints)] if constraints else [])
        Path("search.yaml").write_text(text, encoding="utf-8")
        source = load_source(Path("search.yaml"), overrides, dotted=("space",))
        return compile_search(source, PretrainJob if base == "pretrain" else FinetuneJob, SearchOptions)

    return read


@pytest.fixture
def refused(compiled: Compile) -> Callable[..., list[str]]:
    """The same for what is refused: the lines of the error, the file's name left out; `space:` stands in line 4."""

    def read(space: str, *constraints: str, **options: object) -> list[str]:
        with pytest.raises(SpecError) as caught:
            compiled(space, *constraints, **options)
        return [str(problem).removeprefix("search.yaml:") for problem in caught.value.problems]

    return read
