"""A finished run's model and tokenizer, back in memory."""

from pathlib import Path
from typing import NamedTuple

from pydantic import PositiveInt
from tokenizers import Tokenizer

from reforge.corpora.place import as_place
from reforge.loop import load_tensors
from reforge.models import AnyBackbone, BackboneOptions
from reforge.objectives import AnyObjective, Objective, ObjectiveOptions
from reforge.runs.finished import FinishedRun
from reforge.spec import UserError
from reforge.tokenizers import Vocabulary


class Loaded(NamedTuple):
    """`model, tokenizer = reforge.load(...)`."""

    model: Objective
    tokenizer: Tokenizer


def load(path: str | Path) -> Loaded:
    """The model, in evaluation mode on the CPU, and the tokenizer of the finished run in `path`, a folder or a URL.

    `model.backbone(ids_BT)` gives hidden states, `model.logits(ids_BT)` logits. Raises UserError where `path` holds no
    finished run.
    """
    run = FinishedRun.open(as_place(str(path)))
    if run.is_finetuned:
        raise UserError(f"{path} was fine-tuned: reforge.load_predictor loads it, and jobs/predict.py uses it")
    options: BackboneOptions = run.part(AnyBackbone, "model")
    objective: ObjectiveOptions = run.part(AnyObjective, "objective")
    tokenizer = run.tokenizer()
    model = objective.build(options, Vocabulary.of(tokenizer), run.part(PositiveInt, "block_tokens"))
    load_tensors(model, run.weights(), source=run.folder.weights)
    return Loaded(model.eval(), tokenizer)
