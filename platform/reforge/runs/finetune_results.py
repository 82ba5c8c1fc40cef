"""What a fine-tuning leaves in its folder, beside the checkpoints.

model.safetensors tokenizer.json config.json   to be loaded again
metrics.json confusion.png classes.png         scores, and pictures of them (in TensorBoard too)
predictions.jsonl errors.md                    every answer, and the worst ones
encoder.json result.json                       which weights came from where; the figures, written last
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reforge.corpora.labelled import Example
from reforge.loop import Assessed, score
from reforge.loop.checkpoint import as_json
from reforge.models import count_parameters
from reforge.runs.finished import keep_run
from reforge.runs.folder import RunFolder, parse_result, storage_errors
from reforge.tasks import Scorecard, Task
from reforge.tracking import TensorBoardSink, confusion_figure, per_class_figure, write_errors, write_whole

if TYPE_CHECKING:
    from reforge.runs.finetune import Finetuning

CONFIG_FORMAT = 1


@dataclass(frozen=True)
class Answers:
    """A run's answers to its validation and its test set."""

    valid: Assessed
    test: Assessed | None


@dataclass(frozen=True)
class FinetuneResult:
    """A finished run's figures: metrics as "valid/accuracy", "test/accuracy", of the weights that were kept."""

    step: int
    best_step: int
    epochs: float
    num_parameters: int
    num_trainable: int
    num_examples: dict[str, int]
    metrics: dict[str, float]
    seconds: float

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "FinetuneResult":
        """What `asdict` and JSON made of a result."""
        return parse_result(cls, values)


def keep_results(
    run: "Finetuning", answers: Answers | None, weights: Mapping[str, Tensor], seconds: float
) -> FinetuneResult:
    """Write the files that make the folder usable on its own, the result last; `weights` are whole."""
    assert answers is not None
    job, folder, setup, state = run.job, run.folder, run.setup, run.state
    cards = {"valid": score(setup.task, setup.valid, answers.valid)}
    metrics = {f"valid/{name}": value for name, value in cards["valid"].metrics.items()}
    metrics["valid/loss"] = answers.valid.loss
    if setup.test and answers.test:
        cards["test"] = score(setup.task, setup.test, answers.test)
        metrics |= {f"test/{name}": value for name, value in cards["test"].metrics.items()}
        metrics["test/loss"] = answers.test.loss
    result = FinetuneResult(
        step=state.step,
        best_step=state.best.step if state.best and job.train.keep == "best" else state.step,
        epochs=state.step / setup.train.steps_in_epoch(run.plan.global_batch),
        num_parameters=sum(p.numel() for p in state.model.parameters()),
        num_trainable=count_parameters(state.model),
        num_examples={"train": len(setup.sets.train), "valid": len(setup.sets.valid), "test": len(setup.sets.test)},
        metrics=metrics,
        seconds=seconds,
    )
    with storage_errors(folder.path):
        keep_model(run, weights)
        last = "test" if "test" in cards else "valid"
        labelled, assessed = (setup.test, answers.test) if last == "test" else (setup.valid, answers.valid)
        assert labelled is not None
        assert assessed is not None
        keep_scores(folder, cards, result.step)
        keep_answers(folder, setup.task, labelled.examples, assessed)
        write_whole(folder.result, as_json(asdict(result)))
    return result


def keep_model(run: "Finetuning", weights: Mapping[str, Tensor]) -> None:
    """Weights, tokenizer, and what is needed to build the model again."""
    job, setup = run.job, run.setup
    config = {
        "format": CONFIG_FORMAT,
        "kind": "finetune",
        "task": setup.task_options.model_dump(mode="json"),
        "labels": list(setup.labels),
        "head": job.head_options.model_dump(mode="json"),
        "model": setup.model.model_dump(mode="json"),
        "frame": {"causal": setup.frame.causal, "num_segments": setup.frame.num_segments},
        "vocab_size": setup.frame.vocab_size,
        "block_tokens": setup.frame.block_tokens,
        "data": {key: source.model_dump(mode="json") for key, source in job.data.sources.items()},
        "train": {"precision": job.train.precision, "micro_batch_tokens": job.train.micro_batch_tokens},
        "seed": job.train.seed,
    }
    keep_run(run.folder, weights, setup.tokenizer, config)
    if run.report:
        write_whole(run.folder.path / "encoder.json", as_json(asdict(run.report)))


def keep_scores(folder: RunFolder, cards: dict[str, Scorecard], step: int) -> None:
    """metrics.json, the pictures of the last set's scores, and the same in TensorBoard."""
    pictures = write_scores(folder, cards)
    name = list(cards)[-1]
    board = TensorBoardSink(folder.tensorboard, purge_step=step + 1)
    for picture, png in pictures.items():
        board.image(step, f"{name}/{picture}", png)
    board.scalars(step, {f"final/{key}/{metric}": v for key, c in cards.items() for metric, v in c.metrics.items()})
    board.close()


def write_scores(folder: RunFolder, cards: dict[str, Scorecard]) -> dict[str, bytes]:
    """metrics.json, and the pictures of the last set's scores; the pictures, as PNG, by their names."""
    everything: dict[str, Any] = {}
    for name, card in cards.items():
        everything[name] = {"metrics": card.metrics, "per_class": card.per_class}
        if card.confusion:
            everything[name]["confusion"] = {
                "names": card.confusion.names,
                "counts": card.confusion.counts.tolist(),
            }
    write_whole(folder.path / "metrics.json", as_json(everything))
    card = list(cards.values())[-1]
    pictures = {}
    if card.confusion:
        pictures["confusion"] = confusion_figure(card.confusion)
    if card.per_class:
        pictures["classes"] = per_class_figure(card.per_class)
    for picture, png in pictures.items():
        (folder.path / f"{picture}.png").write_bytes(png)
    return pictures


def keep_answers(folder: RunFolder, task: Task, examples: Sequence[Example], assessed: Assessed) -> None:
    """predictions.jsonl and errors.md of a labelled set."""
    pairs = list(zip(examples, assessed.predictions, strict=True))
    write_jsonl_of(folder, (task.as_json(example, prediction) for example, prediction in pairs))
    verdicts = [(example.key, task.verdict(example, prediction)) for example, prediction in pairs]
    write_errors(folder.path / "errors.md", verdicts)


def write_jsonl_of(folder: RunFolder, rows: Iterable[dict[str, Any]]) -> None:
    """predictions.jsonl, one answer a line."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(folder.path / "predictions.jsonl", lines)
