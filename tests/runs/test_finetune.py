"""A fine-tuning as one plain process does it: what it leaves, resuming it, stopping it early, and wrong data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reforge.loop import StepReport
from reforge.runs import RunFolder, RunStatus
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.finetune_results import FinetuneResult
from reforge.runs.predictor import load_predictor
from reforge.spec import UserError
from reforge.tasks.data import Sets
from reforge.tracking import read_metrics

CPU = torch.device("cpu")
MakeJob = Callable[..., FinetuneJob]


class Killed(Exception):
    """Stands for whatever ends a process at a given step."""


def kill_at(step: int) -> Callable[[StepReport], None]:
    def on_report(report: StepReport) -> None:
        if report.step == step:
            raise Killed

    return on_report


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    return path


def start(job: FinetuneJob) -> FinetuneResult:
    return finetune(job, job.folder, CPU)


@pytest.fixture(scope="module")
def spoilt(reviews_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides under which the best step is not the last: what is learnt is wrong in the validation set."""
    swapped = {"good": "bad", "bad": "good"}
    _, *rows = (line.split("\t") for line in reviews_file.read_text("utf-8").splitlines())
    path = write(tmp_path_factory.mktemp("valid") / "valid.tsv", [f"{text}\t{swapped[label]}" for text, label in rows])
    options = ("train.max_epochs=4", "optimizer.lr=0.02", "optimizer.schedule.kind=constant", "task.metric=loss")
    return (*options, f"data.valid={{kind: tsv, path: {path}, text: text, label: label}}")


@pytest.fixture(scope="module")
def whole(finetune_job: MakeJob, spoilt: tuple[str, ...]) -> RunFolder:
    """An undisturbed run whose best step is not its last."""
    job = finetune_job("name=whole-finetune", *spoilt)
    start(job)
    return RunFolder(job.folder)


def test_the_finished_run_holds_everything_to_use_it(
    spoilt: tuple[str, ...], whole: RunFolder, finetune_job: MakeJob
) -> None:
    names = {path.name for path in whole.path.iterdir() if not path.name.startswith(".")}
    assert names == {
        "spec.yaml", "tokenizer.json", "model.safetensors", "config.json", "metrics.jsonl", "metrics.json",
        "predictions.jsonl", "errors.md", "confusion.png", "classes.png", "result.json", "tensorboard", "checkpoints",
    }  # fmt: skip
    assert whole.status(finetune_job("name=whole-finetune", *spoilt)) is RunStatus.FINISHED
    answers = [json.loads(line) for line in (whole.path / "predictions.jsonl").read_text("utf-8").splitlines()]
    test = Sets.read(finetune_job(*spoilt).data).test
    assert [(answer["key"], answer["gold"]) for answer in answers] == [(e.key, e.label) for e in test]
    right = sum(answer["gold"] == answer["label"] for answer in answers) / len(answers)
    assert whole.read_result()["metrics"]["test/accuracy"] == right


def test_the_best_weights_are_kept_and_scored(spoilt: tuple[str, ...], whole: RunFolder, finetune_job: MakeJob) -> None:
    result = whole.read_result()
    losses = {row["step"]: row["valid/loss"] for row in read_metrics(whole.metrics) if "valid/loss" in row}
    assert list(losses) == [3, 6, 9, 12]
    assert result["best_step"] == min(losses, key=lambda step: losses[step]) < result["step"] == 12
    assert result["metrics"]["valid/loss"] == losses[result["best_step"]]
    best = load_file(whole.checkpoints / f"step-{result['best_step']:08d}" / "model.safetensors")
    exported = load_file(whole.weights)
    assert all(torch.equal(exported[name], tensor) for name, tensor in best.items())
    card, assessed = load_predictor(whole.path, CPU).evaluate(Sets.read(finetune_job(*spoilt).data).valid)
    assert assessed.loss == result["metrics"]["valid/loss"]
    assert card.metrics == {name: result["metrics"][f"valid/{name}"] for name in card.metrics}


@pytest.mark.slow  # takes seconds
def test_the_last_weights_are_kept_where_they_are_wanted(
    spoilt: tuple[str, ...], finetune_job: MakeJob, whole: RunFolder
) -> None:
    result = start(finetune_job("name=last-finetune", *spoilt, "train.keep=last"))
    assert result.best_step == result.step == 12
    last = load_file(whole.checkpoints / "step-00000012" / "model.safetensors")
    exported = load_file(finetune_job("name=last-finetune").folder / "model.safetensors")
    assert all(torch.equal(exported[name], tensor) for name, tensor in last.items())


@pytest.mark.parametrize("kill", [8, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 3, 12))])
def test_a_killed_run_goes_on_to_the_same_weights_and_figures(
    spoilt: tuple[str, ...], kill: int, whole: RunFolder, finetune_job: MakeJob
) -> None:
    job = finetune_job(f"name=killed-finetune-{kill}", *spoilt)
    with pytest.raises(Killed):
        finetune(job, job.folder, CPU, on_report=kill_at(kill))
    folder = RunFolder(job.folder)
    assert not folder.result.exists()
    assert folder.status(job) is (RunStatus.NEW if kill == 2 else RunStatus.UNFINISHED)
    torch.manual_seed(5)
    said: list[object] = []
    result = finetune(job, job.folder, CPU, lambda event: said.append(event.get("say")))
    assert (f"going on from step {kill // 3 * 3} of 12" in said) is (kill > 2)
    assert folder.weights.read_bytes() == whole.weights.read_bytes()
    for file in ("predictions.jsonl", "errors.md", "metrics.json"):
        assert (folder.path / file).read_bytes() == (whole.path / file).read_bytes(), file
    assert {**folder.read_result(), "seconds": 0} == {**whole.read_result(), "seconds": 0}
    assert result.metrics == whole.read_result()["metrics"]
    rows, others = (list(read_metrics(f.metrics)) for f in (folder, whole))
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in others]


@pytest.mark.slow  # three runs
def test_patience_ends_a_run_at_the_same_step_after_a_kill(spoilt: tuple[str, ...], finetune_job: MakeJob) -> None:
    patient = (*spoilt, "train.max_epochs=20", "train.patience=2")
    undisturbed = start(finetune_job("name=patient", *patient))
    assert undisturbed.best_step == undisturbed.step - 6
    assert undisturbed.step < 60
    job = finetune_job("name=patient-killed", *patient)
    with pytest.raises(Killed):
        finetune(job, job.folder, CPU, on_report=kill_at(undisturbed.step - 1))
    resumed = start(job)
    assert (resumed.step, resumed.best_step) == (undisturbed.step, undisturbed.best_step)
    assert resumed.metrics == undisturbed.metrics
    shutil.rmtree(job.folder / "tensorboard")
    (job.folder / "result.json").unlink()  # as if killed after the last step
    assert start(job).metrics == undisturbed.metrics


def test_best_weights_that_are_damaged_are_an_error_that_says_so(
    spoilt: tuple[str, ...], finetune_job: MakeJob, whole: RunFolder
) -> None:
    job = finetune_job("name=damaged-finetune", *spoilt)
    folder = RunFolder(Path(shutil.copytree(whole.path, job.folder)))
    folder.result.unlink()
    best = folder.checkpoints / f"step-{whole.read_result()['best_step']:08d}"
    (best / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=rf"{best.name}, the best weights, is not complete .*train\.keep=last"):
        start(job)


def test_data_that_change_under_a_run_are_noticed(
    spoilt: tuple[str, ...], whole: RunFolder, finetune_job: MakeJob, reviews_file: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "reviews.tsv"
    changed.write_text(reviews_file.read_text("utf-8").replace("lovely", "horrible"), encoding="utf-8")
    job = finetune_job("name=changed-finetune", *spoilt)
    folder = RunFolder(Path(shutil.copytree(whole.path, job.folder)))
    folder.result.unlink()
    with pytest.raises(UserError, match="has changed since"):
        start(finetune_job("name=changed-finetune", *spoilt, f"data.train.path={changed}"))


def test_a_label_that_training_never_saw_stops_the_run_and_a_mended_set_starts_it(
    finetune_job: MakeJob, tmp_path: Path
) -> None:
    test = write(tmp_path / "test.tsv", ["a fine soup\tgood", "a poor soup\tbda"])
    over = (f"data.test={{kind: tsv, path: {test}, text: text, label: label}}", "data.test_fraction=0")
    job = finetune_job("name=unseen", *over)
    with pytest.raises(UserError) as error:
        start(job)
    assert str(error.value) == ('test.tsv:3: the label "bda" is none that training saw: bad, good; did you mean bad?')
    assert RunFolder(job.folder).status(job) is RunStatus.NEW
    write(test, ["a fine soup\tgood", "a poor soup\tbad"])
    assert start(job).num_examples["test"] == 2


def test_a_set_of_one_class_is_nothing_to_learn_from(finetune_job: MakeJob, tmp_path: Path) -> None:
    path = write(tmp_path / "one.tsv", [f"text number {number}\tgood" for number in range(10)])
    with pytest.raises(UserError, match=r'are of one class, "good": there is nothing to tell apart'):
        start(finetune_job("name=one-class", f"data.train.path={path}"))


def test_a_set_too_small_to_be_divided(finetune_job: MakeJob, tmp_path: Path) -> None:
    path = write(tmp_path / "two.tsv", ["a fine soup\tgood", "a poor soup\tbad"])
    with pytest.raises(UserError, match=r"data: no example is left for the (valid|test) set of 2 examples"):
        start(finetune_job("name=too-small", f"data.train.path={path}"))


def test_a_step_that_spoils_the_weights_is_refused(finetune_job: MakeJob) -> None:
    with pytest.raises(UserError, match="training diverged at step"):
        start(finetune_job("name=diverged", "optimizer.lr=1e30", "optimizer.max_grad_norm=1e30"))


def test_questions_from_scratch_get_a_tokenizer_of_what_is_read(finetune_job: MakeJob, tmp_path: Path) -> None:
    from reforge.corpora.labelled import QuestionExample
    from reforge.runs.finetune import train_tokenizer

    contexts = [f"the lighthouse number {number} stands on a cliff" for number in range(9)]
    examples = [QuestionExample(str(n), "where does it stand", text, (), "title") for n, text in enumerate(contexts)]
    tokenizer = train_tokenizer(finetune_job(), Sets(list(examples), [], [], []))
    assert "[UNK]" not in tokenizer.encode("where the cliff stands").tokens
