"""A fine-tuned run, back in memory, answering new examples.

examples --rows--> TaskModel --> predictions        without Ray, on one device
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from reforge.corpora.labelled import AnyLabelled, Example, LabelledOptions
from reforge.heads import AnyHead, HeadOptions
from reforge.loop import Assessed, LabelledSet, Precision, World, assess, load_tensors, score
from reforge.models import AnyBackbone, BackboneOptions, Frame
from reforge.runs.folder import RunFolder
from reforge.spec import UserError
from reforge.tasks import AnyTask, Scorecard, Task, TaskModel, TaskOptions


@dataclass(frozen=True)
class Predictor:
    """A finished run's model, in evaluation mode, and its task.

    data: the options of the labelled sets it was trained and scored on, by "train", "valid" and "test"
    """

    folder: RunFolder
    options: TaskOptions
    task: Task
    model: TaskModel
    tokenizer: Tokenizer
    data: dict[str, LabelledOptions]
    precision: Precision
    micro_batch_tokens: int
    seed: int

    @property
    def kind(self) -> str:
        """The task's kind."""
        return self.options.kind

    def predict(self, examples: Sequence[Example]) -> list[Any]:
        """A prediction for each example, of the task's own kind; labels are not looked at."""
        return self._assess(LabelledSet.of(self.task, examples, labelled=False)).predictions if examples else []

    def evaluate(self, examples: Sequence[Example]) -> tuple[Scorecard, Assessed]:
        """The scores on labelled examples, and what they are of.

        Raises UserError at a label that training never saw.
        """
        labelled = LabelledSet.of(self.task, examples)
        assessed = self._assess(labelled)
        return score(self.task, labelled, assessed), assessed

    def _assess(self, labelled: LabelledSet) -> Assessed:
        world = World(device=next(self.model.parameters()).device)
        found = assess(self.model, self.task, labelled, world, self.precision, self.seed, self.micro_batch_tokens)
        assert found is not None, "one process is the first one"
        return found


def load_predictor(path: str | Path, device: torch.device | None = None) -> Predictor:
    """The finished fine-tuning in `path`, on `device` (default: a GPU where there is one).

    Raises UserError where `path` holds no finished run, or one that was not fine-tuned.
    """
    folder = RunFolder(Path(path).expanduser())
    config = _read_config(folder)
    options: TaskOptions = _parse(AnyTask, config["task"], folder)
    head: HeadOptions = _parse(AnyHead, config["head"], folder)
    model_options: BackboneOptions = _parse(AnyBackbone, config["model"], folder)
    tokenizer = Tokenizer.from_file(str(folder.tokenizer))
    frame = Frame(config["vocab_size"], config["block_tokens"], **config["frame"])
    task = options.bind(tuple(config["labels"]), tokenizer, frame.block_tokens)
    backbone = model_options.build(frame)
    model = task.build(backbone, head.build(backbone.d_model, task.outputs))
    load_tensors(model, load_file(folder.weights), source=folder.weights)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Predictor(
        folder=folder,
        options=options,
        task=task,
        model=model.eval().to(device),
        tokenizer=tokenizer,
        data={key: _parse(AnyLabelled, source, folder) for key, source in config["data"].items()},
        precision=config["train"]["precision"],
        micro_batch_tokens=config["train"]["micro_batch_tokens"],
        seed=config["seed"],
    )


def _read_config(folder: RunFolder) -> dict[str, Any]:
    if not folder.path.is_dir():
        raise UserError(f"{folder.path}: there is no such run")
    if (folder.path / "members").is_dir():
        raise UserError(f"{folder.path} is several runs: choose one of those in {folder.path / 'members'}")
    missing = [file.name for file in (folder.config, folder.weights, folder.tokenizer) if not file.is_file()]
    if missing:
        raise UserError(
            f"{folder.path} is not a finished run: {', '.join(missing)} is missing; start its job again to finish it"
        )
    config: dict[str, Any] = json.loads(folder.config.read_text(encoding="utf-8"))
    if config.get("kind") != "finetune":
        raise UserError(
            f"{folder.path} was pre-trained, not fine-tuned: jobs/finetune.py makes a run of a task from it"
        )
    return config


def _parse(kind: Any, values: Any, folder: RunFolder) -> Any:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(f"{folder.config} is not of this version of reforge: {error}") from error
