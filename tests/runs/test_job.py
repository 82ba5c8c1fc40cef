"""The rules between the parts of a job, and that the shipped specs are sound."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.runs import PretrainJob
from reforge.spec import SpecError, load_source, render, validate

ROOT = Path(__file__).parents[2]
OTHERS = ("finetune_", "suite_", "reference_")
SPECS = [path for path in sorted((ROOT / "jobs" / "specs").glob("*.yaml")) if not path.name.startswith(OTHERS)]


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_shipped_specs_are_sound_and_survive_rendering(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    source = load_source(path)
    corpus_path = source.data["data"]["corpus"].get("path")
    if corpus_path and not Path(corpus_path).exists():
        pytest.skip(f"{path.name}: its corpus {corpus_path} is not here")
    job = validate(PretrainJob, source)
    rendered = tmp_path / "spec.yaml"
    rendered.write_text(render(job), encoding="utf-8")
    assert validate(PretrainJob, load_source(rendered)) == job


@pytest.mark.parametrize(
    ("override", "path", "rule"),
    [
        ("train.global_batch_tokens=100", "train.global_batch_tokens", "must be a multiple of data.block_tokens (32)"),
        ("train.global_batch_tokens=32", "train.global_batch_tokens", "at least one block of 32 tokens for each of 2"),
        ("model.num_heads=5", "model.num_heads", "must divide d_model (32)"),
        ("model.axial_position_shape=[5, 5]", "model.axial_position_shape", "must be data.block_tokens (32)"),
        ("name=../escape", "name", ""),
        ("scale.gpus_per_worker=-1", "scale.gpus_per_worker", "must be auto or at least 0"),
        ("scale.num_workers=[4, 2]", "scale.num_workers", "must be the fewest and the most workers, as [1, 8]"),
        ("scale.num_workers=[0, 2]", "scale.num_workers", "must be the fewest and the most workers, as [1, 8]"),
        ("scale.hang_timeout=soon", "scale.hang_timeout", "must be a time such as 45s, 30m"),
        ("objective.random_token_prob=0.3", "objective.random_token_prob", "must be at most"),
        ("data.pack=pairs", "data.pack", "must be within: mlm makes no use of pairs"),
        ("data.curriculum=length", "data.curriculum", "must be none where data.batches is packed: all blocks"),
    ],
)
def test_what_cannot_be_is_refused(tiny_job: Callable[..., PretrainJob], override: str, path: str, rule: str) -> None:
    with pytest.raises(SpecError) as error:
        tiny_job(override)
    lines = [line for line in str(error.value).splitlines() if f"{path}: " in line]
    assert any(rule in line for line in lines), error.value
    assert all(f"command line: {override}" in line for line in lines)


def test_pairs_are_made_of_documents_that_are_kept_apart(tiny_job: Callable[..., PretrainJob]) -> None:
    with pytest.raises(SpecError, match=r"data\.pack: must be pairs, within or lines, or data\.batches bucketed: mlm"):
        tiny_job("objective.kind=mlm_nsp")
    for overrides in (["data.pack=pairs"], ["data.pack=within"], ["data.pack=lines"], ["data.batches=bucketed"]):
        tiny_job("objective.kind=mlm_nsp", *overrides)


def test_auto_and_what_it_stands_for_are_the_same_run(tiny_job: Callable[..., PretrainJob]) -> None:
    assert tiny_job().identity() == tiny_job("data.pack=documents").identity()
    assert tiny_job().identity() != tiny_job("data.pack=within").identity()
