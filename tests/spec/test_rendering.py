from collections.abc import Callable

import pytest
import yaml

from reforge.spec import Part, render

FULL = """
name: 한국어 모델
data: {corpus: {kind: text, path: ../data/위키, by_line: true}, block_tokens: 256}
model: {kind: transformer, kernel_sizes: [3]}
extra_models: [{kind: reformer, axial_shape: [8, 64]}, {kind: transformer}]
optimizer: {lr: 1e-16, betas: [0, 1.0e+22], no_decay: [bias, 'no', '1e-4']}
train: {max_steps: 20000, precision: fp32, resume: false, time_budget: 2h}
scale: {num_workers: 2, gpus_per_worker: 0.25}
weights: {'1': 1, a b: 0.1, '<<': 2, 'true': 3}
"""
NAMES = [
    "1e-4", "1.5", "12", "0o17", "0x1f", "012", "1_000", "true", "no", "off", "null", "~", "", "2026-11-20", "12:30",
    "=", "<<", "- a", "a: b", "a #b", "[a", "*a", "&a", "!a", "%a", "@a", "'", '"', "\\", " a ", "a\nb\n", "\t",
    "\x85\u2028\ufeff", "😀", "x" * 300, "word " * 60, ".inf", ".nan", "---", "?", "0b1", "+1", "1.", ".5",
]  # fmt: skip


def test_a_rendered_job_loads_back_equal(read: Callable[..., Part]) -> None:
    job = read(FULL)
    assert read(render(job)) == job


@pytest.mark.parametrize("name", NAMES)
def test_text_stays_text(read: Callable[..., Part], name: str) -> None:
    job = read(FULL).model_copy(update={"name": name})
    assert read(render(job)) == job
    assert yaml.safe_load(render(job))["name"] == name  # a YAML 1.1 reader agrees


@pytest.mark.parametrize("lr", [1e-4, 1e-5, 5e-324, 1.0, 3.0e22, 0.1 + 0.2, 1e16])
def test_floats_stay_floats_for_every_reader(read: Callable[..., Part], lr: float) -> None:
    job = read(FULL, f"optimizer.lr={lr!r}")
    assert read(render(job)) == job
    plain = yaml.safe_load(render(job))["optimizer"]["lr"]
    assert plain == lr
    assert isinstance(plain, float)


def test_the_text_reads_well(read: Callable[..., Part]) -> None:
    text = render(read(FULL, "optimizer.lr=1e-5"))
    assert text.startswith(
        "kind: pretrain\nname: 한국어 모델\ndata:\n  corpus:\n    kind: text\n    path: ../data/위키\n"
    )
    assert "  lr: 1.0e-05\n  betas: [0.0, 1.0e+22]\n  no_decay: [bias, 'no', '1e-4']\n" in text
    assert "  kernel_sizes: [3]\n" in text
