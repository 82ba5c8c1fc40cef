"""The encoder under a head: a run's tokenizer, model and weights, each tensor accounted for.

config.json --> model options --drop layers, dropout--> backbone <--tensors, with a report-- model.safetensors
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from reforge.loop import named_tensors
from reforge.loop.tensors import MOST_SHOWN
from reforge.models import AnyBackbone, Backbone, BackboneOptions, Frame
from reforge.models.depth import parameter_depths
from reforge.objectives import AnyObjective, ObjectiveOptions
from reforge.runs.finished import FinishedRun
from reforge.spec import UserError

PREFIX = "backbone."


@dataclass(frozen=True)
class Encoder:
    """What a finished run gives to a fine-tuning.

    depth: of the run's own model, with the layers that are left out
    """

    run: FinishedRun
    options: BackboneOptions
    causal: bool
    num_segments: int
    block_tokens: int
    vocab_size: int

    @property
    def frame(self) -> Frame:
        """What the run's backbone was built for."""
        return Frame(self.vocab_size, self.block_tokens, self.causal, self.num_segments)

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return self.run.tokenizer()

    @cached_property
    def digest(self) -> str:
        """A digest of the weights' content."""
        with self.run.folder.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_encoder(path: Path, cache: Path | None = None) -> Encoder:
    """The encoder of the finished run in `path`, pre-trained or fine-tuned; raises UserError where there is none.

    cache: where the files of a remote run are kept on this machine
    """
    try:
        run = FinishedRun.open(path, cache)
        return Encoder(
            run=run,
            options=run.part(AnyBackbone, "model"),
            causal=_reading(run)["causal"],
            num_segments=_reading(run)["num_segments"],
            block_tokens=run.part(int, "block_tokens"),
            vocab_size=run.part(int, "vocab_size"),
        )
    except UserError as error:
        raise UserError(f"encoder.run: {error}") from error


def _reading(run: FinishedRun) -> dict[str, Any]:
    """Whether a run's backbone is causal and how many segments it knows; an objective implies it, a task says it."""
    if run.is_finetuned:
        return asdict(run.frame())
    objective: ObjectiveOptions = run.part(AnyObjective, "objective")
    return {"causal": objective.causal, "num_segments": objective.num_segments}


@dataclass(frozen=True)
class LoadReport:
    """Which tensors an encoder got from a file, by name.

    matched: taken over
    new: in the model only, and freshly made
    left: in the file only, with the reason
    """

    source: str
    matched: list[str]
    new: list[str]
    left: dict[str, str]

    def summary(self) -> str:
        """The report in a line."""
        reasons: dict[str, int] = {}
        for reason in self.left.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        left = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        new = ", ".join(self.new) or "none"
        return f"encoder: {len(self.matched)} tensors from {self.source}; new: {new}; left: {left or 'none'}"


@torch.no_grad()
def load_backbone(backbone: Backbone, encoder: Encoder, num_dropped: int) -> LoadReport:
    """Copy a run's backbone into `backbone`, which has `num_dropped` layers less; every tensor is accounted for.

    Segment embeddings that the run lacks start at zero. Raises UserError for any other tensor that is in one of the
    two only, or of another shape.
    """
    source = encoder.run.place / encoder.run.folder.weights.name
    tensors = encoder.run.weights()
    ours = {PREFIX + name: tensor for name, tensor in named_tensors(backbone).items()}
    left = {name: _role(name) for name in tensors if not name.startswith(PREFIX)}
    theirs = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if num_dropped:
        dropped = _dropped(encoder, theirs.keys() - ours.keys(), num_dropped)
        left |= dict.fromkeys(dropped, "of layers that encoder.drop_last_layers leaves out")
        theirs = {name: tensor for name, tensor in theirs.items() if name not in dropped}
    new = sorted(ours.keys() - theirs.keys())
    unexpected = [name for name in new if encoder.num_segments or not _is_segments(backbone, ours[name])]
    _refuse(source, ours, theirs, unexpected, encoder)
    for name, tensor in theirs.items():
        ours[name].copy_(tensor)
    if new:
        backbone.reset_segments()
    return LoadReport(str(source), sorted(theirs), new, left)


def _is_segments(backbone: Backbone, tensor: Tensor) -> bool:
    weight = backbone.segment_weight
    return weight is not None and weight.data_ptr() == tensor.data_ptr()


def _role(name: str) -> str:
    return f"of the run's own {name.split('.')[0]}"


def _dropped(encoder: Encoder, names: set[str], num_dropped: int) -> set[str]:
    """Those of the names that belong to the run's topmost layers."""
    with torch.device("meta"):
        whole = encoder.options.build(encoder.frame)
    depths = {PREFIX + name: depth for name, depth in parameter_depths(whole).items()}
    top = encoder.options.depth
    return {name for name in names if top - num_dropped < depths.get(name, 0) <= top}


def _refuse(
    source: Path, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], unexpected: list[str], encoder: Encoder
) -> None:
    wrong = [f"{name}: in the model only" for name in unexpected]
    wrong += [f"{name}: in the file only" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        there, here = list(theirs[name].shape), list(ours[name].shape)
        if there != here:
            hint = f" (positions of {encoder.block_tokens} tokens: data.block_tokens)" if "position" in name else ""
            wrong.append(f"{name}: {there} in the file, {here} in the model{hint}")
    if wrong:
        more = [f"and {len(wrong) - MOST_SHOWN} more"] if len(wrong) > MOST_SHOWN else []
        shown = "\n".join(f"  {line}" for line in wrong[:MOST_SHOWN] + more)
        raise UserError(f"{source} does not fit the encoder:\n{shown}")
