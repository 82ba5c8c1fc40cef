"""A fine-tuned run, back in memory, answering new examples.

examples --rows--> TaskModel --> predictions        without Ray, on one device
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from tokenizers import Tokenizer

from reforge.corpora.labelled import AnyLabelled, Example, LabelledOptions
from reforge.corpora.place import as_place
from reforge.heads import AnyHead, HeadOptions
from reforge.loop import Assessed, LabelledSet, Precision, World, assess, load_tensors, score
from reforge.models import AnyBackbone, BackboneOptions
from reforge.runs.finished import FinishedRun
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


@dataclass(frozen=True)
class _Training:
    """What a run keeps of its `train:` section."""

    precision: Precision
    micro_batch_tokens: int


def load_predictor(path: str | Path, device: torch.device | None = None) -> Predictor:
    """The finished fine-tuning in `path`, a folder or a URL, on `device` (default: a GPU where there is one).

    Raises UserError where `path` holds no finished run, or one that was not fine-tuned.
    """
    run = FinishedRun.open(as_place(str(path)))
    if not run.is_finetuned:
        raise UserError(f"{path} was pre-trained, not fine-tuned: jobs/finetune.py makes a run of a task from it")
    options: TaskOptions = run.part(AnyTask, "task")
    head: HeadOptions = run.part(AnyHead, "head")
    model_options: BackboneOptions = run.part(AnyBackbone, "model")
    tokenizer = run.tokenizer()
    frame, training = run.frame(), run.part(_Training, "train")
    task = options.bind(run.part(tuple[str, ...], "labels"), tokenizer, frame.block_tokens)
    backbone = model_options.build(frame)
    model = task.build(backbone, head.build(backbone.d_model, task.outputs))
    load_tensors(model, run.weights(), source=run.folder.weights)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Predictor(
        folder=run.folder,
        options=options,
        task=task,
        model=model.eval().to(device),
        tokenizer=tokenizer,
        data={key: run.parse(AnyLabelled, source) for key, source in run.part(dict[str, JsonValue], "data").items()},
        precision=training.precision,
        micro_batch_tokens=training.micro_batch_tokens,
        seed=run.part(int, "seed"),
    )
