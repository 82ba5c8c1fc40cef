"""A finished run's model and tokenizer, back in memory."""

import json
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter
from safetensors.torch import load_file
from tokenizers import Tokenizer

from reforge.loop import load_tensors
from reforge.models import AnyBackbone
from reforge.objectives import AnyObjective, Objective
from reforge.runs.folder import RunFolder
from reforge.spec import UserError
from reforge.tokenizers import Vocabulary


class Loaded(NamedTuple):
    """`model, tokenizer = reforge.load(...)`."""

    model: Objective
    tokenizer: Tokenizer


def load(path: str | Path) -> Loaded:
    """The model, in evaluation mode on the CPU, and the tokenizer of the finished run in `path`.

    `model.backbone(ids_BT)` gives hidden states, `model.logits(ids_BT)` logits. Raises UserError where `path` holds no
    finished run.
    """
    folder = RunFolder(Path(path))
    if not folder.path.is_dir():
        raise UserError(f"{path}: there is no such run")
    missing = [f.name for f in (folder.config, folder.weights, folder.tokenizer) if not f.is_file()]
    if missing:
        raise UserError(
            f"{path} is not a finished run: {', '.join(missing)} is missing; start its job again to finish it"
        )
    config = json.loads(folder.config.read_text(encoding="utf-8"))
    if config.get("kind") == "finetune":
        raise UserError(f"{path} was fine-tuned: reforge.load_predictor loads it, and jobs/predict.py uses it")
    options = TypeAdapter(AnyBackbone).validate_json(json.dumps(config["model"]))
    objective = TypeAdapter(AnyObjective).validate_json(json.dumps(config["objective"]))
    tokenizer = Tokenizer.from_file(str(folder.tokenizer))
    if tokenizer.get_vocab_size() != config["vocab_size"]:
        raise UserError(
            f"{folder.tokenizer} has {tokenizer.get_vocab_size():,} tokens, but the weights beside it are of a model "
            f"of {config['vocab_size']:,}: it is another run's tokenizer"
        )
    model = objective.build(options, Vocabulary.of(tokenizer), config["block_tokens"])
    load_tensors(model, load_file(folder.weights), source=folder.weights)
    return Loaded(model.eval(), tokenizer)
