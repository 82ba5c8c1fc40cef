"""The job spec of fine-tuning: the parts' own options composed, and the rules between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from reforge.corpora.place import Place
from reforge.heads import HEADS, AnyHead, HeadOptions
from reforge.loop import OptimizerOptions, Precision
from reforge.loop.optimizer import ScheduleOptions
from reforge.models import AnyBackbone
from reforge.runs.job import RunOptions, ScaleOptions
from reforge.spec import Part, Problem
from reforge.tasks import AnyTask
from reforge.tasks.data import Fold, LabelledData
from reforge.tokenizers import AnyTokenizer

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class EncoderOptions(Part):
    """The `encoder:` section: what is under the head.

    run: the folder or URL of a finished run whose tokenizer, model and weights are taken; null: the spec's own `model`
        and `tokenizer`, which is trained on the training set's texts, from scratch
    weights: those of the `run`, or `fresh` ones: its model from scratch, as the baseline to beat
    trainable_layers: all, or the last N layers and what is above them; 0 trains the head alone
    drop_last_layers: leave so many of the run's layers out
    dropout: in place of the model's own dropout on activations
    """

    run: Place | None = None
    weights: Literal["run", "fresh"] = "run"
    trainable_layers: int | Literal["all"] = "all"
    drop_last_layers: int = Field(0, ge=0)
    dropout: float | None = Field(None, ge=0, lt=1)

    def problems(self) -> Iterator[Problem]:
        """A number of layers is not negative; what concerns a run's weights needs a run."""
        if self.trainable_layers != "all" and self.trainable_layers < 0:
            yield Problem(("trainable_layers",), "must be all or at least 0", self.trainable_layers)
        if self.trainable_layers != "all" and (self.run is None or self.weights == "fresh"):
            rule = "must be all: layers that were not pre-trained have nothing to keep"
            yield Problem(("trainable_layers",), rule, self.trainable_layers)
        if self.drop_last_layers and self.run is None:
            rule = "must be 0 where run is null: model.depth says how many layers there are"
            yield Problem(("drop_last_layers",), rule, self.drop_last_layers)


@dataclass(frozen=True)
class FinetunePlan:
    """How far and how fast, in steps; `global_batch` counts rows."""

    max_steps: int
    global_batch: int
    micro_batch_tokens: int
    precision: Precision
    eval_every_steps: int
    patience: int | None
    stop_at_step: int | None


class FinetuneTrainOptions(Part):
    """The `train:` section of fine-tuning.

    max_epochs: how often the training set is seen
    batch_size: rows a step, over all workers; a long text or context is several rows
    micro_batch_tokens: what one worker puts through the model at once, at most
    evals_per_epoch: how often the validation set is scored
    patience: stop after so many evaluations without a better score; null goes on to max_epochs
    stop_at_step: end there, though the learning rate's schedule goes on to max_epochs; null: do not
    keep: the weights that were best on the validation set, or the last
    """

    max_epochs: float = Field(3.0, gt=0)
    batch_size: int = Field(32, ge=1)
    micro_batch_tokens: int = Field(8_192, ge=1)
    precision: Precision = "auto"
    evals_per_epoch: int = Field(1, ge=1)
    patience: int | None = Field(None, ge=1)
    stop_at_step: int | None = Field(None, ge=1)
    keep: Literal["best", "last"] = "best"
    log_every_steps: int = Field(10, ge=1)
    seed: Seed = 1

    def plan(self, steps_in_epoch: int) -> FinetunePlan:
        """The plan for a training set of so many steps an epoch."""
        return FinetunePlan(
            max_steps=max(1, round(self.max_epochs * steps_in_epoch)),
            global_batch=self.batch_size,
            micro_batch_tokens=self.micro_batch_tokens,
            precision=self.precision,
            eval_every_steps=max(1, round(steps_in_epoch / self.evals_per_epoch)),
            patience=self.patience,
            stop_at_step=self.stop_at_step,
        )


class CrossValidation(Part):
    """Hold out each of `folds` equal parts of the training set once, as the test set."""

    folds: int = Field(5, ge=2)


class Repeat(Part):
    """Train once with each of the `seeds`, on the same sets."""

    seeds: tuple[Seed, ...] = Field(min_length=1)

    def problems(self) -> Iterator[Problem]:
        """No seed twice."""
        if len(set(self.seeds)) < len(self.seeds):
            yield Problem(("seeds",), "must differ from each other", list(self.seeds))


FINETUNE_OPTIMIZER = OptimizerOptions(lr=5e-4, schedule=ScheduleOptions(kind="linear", warmup_fraction=0.1))


class FinetuneJob(Part):
    """A fine-tuning job, whole."""

    kind: Literal["finetune"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: AnyTask
    data: LabelledData
    encoder: EncoderOptions = EncoderOptions()
    head: AnyHead | None = None
    model: AnyBackbone | None = None
    tokenizer: AnyTokenizer | None = None
    optimizer: OptimizerOptions = FINETUNE_OPTIMIZER
    train: FinetuneTrainOptions = FinetuneTrainOptions()
    cv: CrossValidation | None = None
    repeat: Repeat | None = None
    scale: ScaleOptions = ScaleOptions()
    run: RunOptions = RunOptions()

    @property
    def head_options(self) -> HeadOptions:
        """The head: the spec's, or the task's usual one."""
        return self.head or HEADS[self.task.default_head](kind=self.task.default_head)

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.run.folder / self.name

    def problems(self) -> Iterator[Problem]:
        """What must hold between the parts."""
        yield from self._data_problems()
        yield from self._head_problems()
        if self.encoder.run is None:
            for key in ("model", "tokenizer"):
                if getattr(self, key) is None:
                    yield Problem((key,), "must be given where encoder.run is null: there is nothing to take it from")
        else:
            for key in ("model", "tokenizer"):
                if getattr(self, key) is not None:
                    yield Problem((key,), "must be left out where encoder.run is given: it is that run's")
        if self.train.batch_size < self.scale.most_workers:
            rule = f"must hold at least one row for each of {self.scale.most_workers} workers"
            yield Problem(("train", "batch_size"), rule, self.train.batch_size)

    def _data_problems(self) -> Iterator[Problem]:
        for key, source in self.data.sources.items():
            if source.gives != self.task.gives:
                rule = f"must be a set of {self.task.gives} for the task {self.task.kind}"
                yield Problem(("data", key, "kind"), rule, source.kind)
        if self.cv is not None:
            for key in ("valid", "test"):
                if key in self.data.sources:
                    yield Problem(("data", key), "must be left out where cv is given: every fold holds out its own")
            if self.data.fold is not None:
                yield Problem(("data", "fold"), "must be left out where cv is given: it goes through all folds")
            if self.data.test_fraction:
                rule = "must be 0 where cv is given: every fold is a test set"
                yield Problem(("data", "test_fraction"), rule, self.data.test_fraction)

    def _head_problems(self) -> Iterator[Problem]:
        if not self._takes(type(self.head_options)):
            fit = ", ".join(kind for kind, head in HEADS.items() if self._takes(head))
            yield Problem(
                ("head", "kind"), f"must be one of {fit} for the task {self.task.kind}", self.head_options.kind
            )
        else:
            yield from self.head_options.fit(self.task.level)
        if not self.head_options.supports_class_weights:
            for key, plain in (("class_weights", "none"), ("label_smoothing", 0.0)):
                value = getattr(self.task, key, plain)
                if value != plain:
                    rule = f"must be {plain}: the head {self.head_options.kind} has no loss of single labels"
                    yield Problem(("task", key), rule, value)

    def _takes(self, head: type[HeadOptions]) -> bool:
        return self.task.level in head.levels and (self.task.single_score or not head.single_score)

    @property
    def has_members(self) -> bool:
        """Whether the job is several runs."""
        return self.repeat is not None or self.cv is not None

    def members(self) -> list[tuple[str, "FinetuneJob"]]:
        """The single runs of this job by name: one for each seed and fold, or the job itself as ("", job)."""
        seeds = self.repeat.seeds if self.repeat else (self.train.seed,)
        folds = range(self.cv.folds) if self.cv else (None,)
        if not self.has_members:
            return [("", self)]
        return [self._member(seed, fold) for seed in seeds for fold in folds]

    def _member(self, seed: int, fold: int | None) -> tuple[str, "FinetuneJob"]:
        parts = ([f"seed-{seed}"] if self.repeat else []) + ([] if fold is None else [f"fold-{fold + 1}"])
        name = "-".join(parts)
        data = self.data
        if fold is not None and self.cv is not None:
            data = data.model_copy(update={"fold": Fold(index=fold, of=self.cv.folds)})
        changes = {
            "name": name,
            "data": data,
            "train": self.train.model_copy(update={"seed": seed}),
            "run": self.run.model_copy(update={"storage": self.run.storage / self.name / "members"}),
            "cv": None,
            "repeat": None,
        }
        return name, self.model_copy(update=changes)

    def is_done(self, result: dict[str, Any]) -> bool:
        """A run that has a result has come to its end, wherever patience put it; of several, each must be there."""
        return not self.has_members or result["members"].keys() >= {name for name, _ in self.members()}

    def identity(self) -> dict[str, Any]:
        """The part of the spec that decides what is learnt: a run goes on only under the same identity."""
        spec = self.model_dump(mode="json", exclude={"scale", "run", "name", "repeat"})
        for key, source in self.data.sources.items():
            spec["data"][key] = source.identity()
        # How far it goes and how it is looked at may change; how it is divided changes how sums are rounded, no more.
        for key in ("log_every_steps", "micro_batch_tokens", "stop_at_step"):
            del spec["train"][key]
        return spec
