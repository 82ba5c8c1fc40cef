"""The rules between the parts of a fine-tuning job, and that the shipped specs are sound."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.suite import SuiteJob
from reforge.spec import SpecError, load_source, render, validate

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny_finetune.yaml"
SPECS = sorted((ROOT / "jobs" / "specs").glob("finetune_*.yaml")) + sorted(
    (ROOT / "jobs" / "specs").glob("suite*.yaml")
)
MakeJob = Callable[..., FinetuneJob]


@pytest.mark.slow  # those that split a set look at all of it
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs_are_sound_and_survive_rendering(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    source = load_source(path)
    kind = SuiteJob if source.data["kind"] == "suite" else FinetuneJob
    for section in source.data.get("data", {}).values():
        if isinstance(section, dict) and not Path(section.get("path", ".")).exists():
            pytest.skip(f"{path.name}: its set {section['path']} is not here")
    job = validate(kind, source)  # type: ignore[type-var]
    rendered = tmp_path / "spec.yaml"
    rendered.write_text(render(job), encoding="utf-8")
    assert validate(kind, load_source(rendered)) == job  # type: ignore[type-var]


def tagged(folder: Path) -> str:
    path = folder / "tagged.txt"
    path.write_text("Ann B-PER\nwent O\n\nBen B-PER\ncame O\n", encoding="utf-8")
    return f"data.train={{kind: conll, path: {path}}}"


@pytest.mark.parametrize(
    ("overrides", "path", "rule"),
    [
        (["name=../escape"], "name", ""),
        (["head={kind: crf}"], "head.kind", "must be one of linear, cnn for the task classification"),
        (["head={kind: regression}"], "head.kind", "must be one of linear, cnn for the task classification"),
        (["head={kind: linear, lstm: {}}"], "head.lstm", "must be left out where a text gets one answer"),
        (["model=null"], "model", "must be given where encoder.run is null"),
        (["tokenizer=null"], "tokenizer", "must be given where encoder.run is null"),
        (["encoder.run=runs/any"], "model", "must be left out where encoder.run is given: it is that run's"),
        (["encoder.trainable_layers=-1"], "encoder.trainable_layers", "must be all or at least 0"),
        (["encoder.trainable_layers=1"], "encoder.trainable_layers", "must be all: layers that were not pre-trained"),
        (["encoder.drop_last_layers=1"], "encoder.drop_last_layers", "must be 0 where run is null"),
        (["encoder.dropout=1"], "encoder.dropout", ""),
        (["task.metric=f1"], "task.metric", "must be one of accuracy, macro_f1, loss"),
        (["train.batch_size=2", "scale.num_workers=3"], "train.batch_size", "at least one row for each of 3 workers"),
        (["train.patience=0"], "train.patience", ""),
        (["data.test_fraction=0.8"], "data.valid_fraction", "must leave something to train on"),
        (["cv={folds: 1}"], "cv.folds", ""),
        (["cv={folds: 3}"], "data.test_fraction", "must be 0 where cv is given: every fold is a test set"),
        (["data.fold={index: 0, of: 2}"], "data.fold", "must be left out where there is a test set"),
        (["data.test_fraction=0", "data.fold={index: 2, of: 2}"], "data.fold.index", "must be below fold.of (2)"),
        (["repeat={seeds: []}"], "repeat.seeds", ""),
        (["repeat={seeds: [1, 2, 1]}"], "repeat.seeds", "must differ from each other"),
        (["repeat={seeds: [-1]}"], "repeat.seeds", ""),
        (["train.max_epoch=3"], "train.max_epoch", "did you mean max_epochs"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else None,
)
def test_what_cannot_be_is_refused(finetune_job: MakeJob, overrides: list[str], path: str, rule: str) -> None:
    with pytest.raises(SpecError) as error:
        finetune_job(*overrides)
    lines = [line for line in str(error.value).splitlines() if f" {path}" in line and rule in line]
    assert lines, error.value
    assert any("command line: " in line or "tiny_finetune.yaml:" in line for line in lines), error.value


def test_a_mistake_in_the_file_is_named_with_its_line(reviews_file: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    text = TINY.read_text("utf-8").replace("path: reviews.tsv", f"path: {reviews_file}")
    spec.write_text(text.replace("max_epochs: 3", "max_epochs: 3, keep: bset"), encoding="utf-8")
    with pytest.raises(SpecError) as error:
        validate(FinetuneJob, load_source(spec))
    line = 1 + next(n for n, row in enumerate(spec.read_text("utf-8").splitlines()) if row.startswith("train:"))
    assert re.search(rf"spec\.yaml:{line}: train\.keep: .*best", str(error.value))


def test_a_set_is_of_the_form_that_the_task_takes(finetune_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"data\.train\.kind: must be a set of texts for the task classification"):
        finetune_job(tagged(tmp_path))


def test_class_weights_are_for_heads_that_score_single_labels(finetune_job: MakeJob, tmp_path: Path) -> None:
    weighted = ["task={kind: ner, class_weights: balanced}", tagged(tmp_path)]
    finetune_job(*weighted, "head={kind: linear}")
    with pytest.raises(
        SpecError, match=r"task\.class_weights: must be none: the head crf has no loss of single labels"
    ):
        finetune_job(*weighted, "head={kind: crf}")


def test_cross_validation_holds_out_its_own_sets(finetune_job: MakeJob, reviews_file: Path) -> None:
    given = f"{{kind: tsv, path: {reviews_file}, text: text, label: label}}"
    for key in ("valid", "test"):
        with pytest.raises(SpecError, match=rf"data\.{key}: must be left out where cv is given"):
            finetune_job("cv={folds: 3}", "data.test_fraction=0", f"data.{key}={given}")
    with pytest.raises(SpecError, match=r"data\.fold: must be left out where cv is given"):
        finetune_job("cv={folds: 3}", "data.test_fraction=0", "data.fold={index: 0, of: 3}")


def test_members_are_all_seeds_of_all_folds(finetune_job: MakeJob) -> None:
    job = finetune_job("cv={folds: 3}", "data.test_fraction=0", "repeat={seeds: [4, 9]}")
    members = dict(job.members())
    assert list(members) == [f"seed-{seed}-fold-{fold}" for seed in (4, 9) for fold in (1, 2, 3)]
    member = members["seed-9-fold-2"]
    assert member.folder == job.folder / "members" / "seed-9-fold-2"
    assert (member.train.seed, member.data.fold and member.data.fold.index, member.has_members) == (9, 1, False)
    assert FinetuneJob.model_validate_json(json.dumps(member.model_dump(mode="json"))) == member
    assert [name for name, _ in finetune_job().members()] == [""]


@pytest.mark.parametrize(
    ("override", "is_same"),
    [
        ("name=another", True),
        ("train.log_every_steps=7", True),
        ("scale.cpus_per_worker=2", True),
        ("repeat={seeds: [1, 2]}", True),
        ("train.seed=2", False),
        ("optimizer.lr=1e-4", False),
        ("data.split_seed=2", False),
        ("data.test_fraction=0.3", False),
        ("head={kind: cnn}", False),
        ("encoder.dropout=0.2", False),
        ("task.label_smoothing=0.1", False),
    ],
)
def test_what_is_learnt_is_the_identity(finetune_job: MakeJob, override: str, is_same: bool) -> None:
    assert (finetune_job(override).identity() == finetune_job().identity()) is is_same


def test_where_a_set_lies_is_no_part_of_the_identity(finetune_job: MakeJob, reviews_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.tsv"
    moved.write_bytes(reviews_file.read_bytes())
    assert finetune_job(f"data.train.path={moved}").identity() == finetune_job().identity()


def test_a_plan_is_in_steps_of_the_set(finetune_job: MakeJob) -> None:
    train = finetune_job("train.max_epochs=2.5", "train.evals_per_epoch=4").train
    plan = train.plan(steps_in_epoch=10)
    assert (plan.max_steps, plan.eval_every_steps, plan.global_batch) == (25, 2, 16)
    assert (train.plan(1).max_steps, train.plan(1).eval_every_steps) == (2, 1)
