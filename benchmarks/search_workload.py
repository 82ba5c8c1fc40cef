"""The short fine-tunings that searches are timed with: a two-layer Transformer on sentences made up here."""

import random
from pathlib import Path

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.tune_job import TuneOptions, TuneSearch
from reforge.search import compile_search
from reforge.search.study import Study
from reforge.spec import load_source

GOOD = ("fine", "great", "lovely", "bright", "warm")
BAD = ("dull", "poor", "awful", "dark", "cold")
THINGS = ("film", "actor", "scene", "plot", "music")

BASE_FILE = "base.yaml"
BASE = """
kind: finetune
name: short
task: {kind: classification}
data:
  train: {kind: tsv, path: reviews.tsv, text: text, label: label}
  valid_fraction: 0.2
  test_fraction: 0.2
  block_tokens: 32
tokenizer: {kind: wordpiece, vocab_size: 200}
model: {kind: transformer, d_model: 64, depth: 2, num_heads: 2}
optimizer: {lr: 1.0e-3, schedule: {kind: linear, warmup_steps: 2}}
train: {max_epochs: 2, batch_size: 16, micro_batch_tokens: 512, precision: fp32}
"""
SPACE = """
kind: tune
name: short
extends: base.yaml
metric: {name: valid/loss, mode: min}
space:
  optimizer.lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  optimizer.weight_decay: {low: 0.0, high: 0.1}
search: {num_trials: 40, sampler: {kind: tpe, seed: 1}}
"""


def write_workload(folder: Path, num_examples: int = 240) -> None:
    """reviews.tsv, base.yaml and space.yaml."""
    draw = random.Random(0)
    rows = ["text\tlabel"]
    for number in range(num_examples):
        words = [*draw.choices(GOOD if number % 2 else BAD, k=3), *draw.choices(THINGS, k=4)]
        draw.shuffle(words)
        rows.append(f"{' '.join(words)}\t{'good' if number % 2 else 'bad'}")
    (folder / "reviews.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    base = BASE.replace("reviews.tsv", str((folder / "reviews.tsv").resolve()))
    (folder / BASE_FILE).write_text(base, encoding="utf-8")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")


def open_search(folder: Path, *overrides: str) -> tuple[TuneSearch, Study]:
    """The search of the short fine-tunings, kept in `folder`."""
    write_workload(folder)
    source = load_source(folder / "space.yaml", [f"run.storage={folder / 'runs'}", *overrides], dotted=("space",))
    search: TuneSearch = compile_search(source, FinetuneJob, TuneOptions)
    options = search.options
    return search, Study(
        options.name, search.space, options.search, options.metrics, options.study_storage, scheduler=options.scheduler
    )


def assignments(num_trials: int) -> list[dict[str, float]]:
    """The same for every contender."""
    draw = random.Random(1)
    return [
        {"optimizer.lr": round(10 ** draw.uniform(-5, -2), 8), "optimizer.weight_decay": round(draw.uniform(0, 0.1), 4)}
        for _ in range(num_trials)
    ]
