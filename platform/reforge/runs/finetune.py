"""Fine-tuning as one process of possibly several does it: build or resume, train, keep the best, score, export.

labelled sets --rows--> TaskData --+
run or spec --> tokenizer, backbone --> TaskModel --> train() --> best weights --> scores, predictions, export
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from reforge.loop import (
    Checkpoints,
    Goal,
    LabelledSet,
    LoopState,
    StepReport,
    TaskData,
    World,
    assess,
    load_tensors,
    named_tensors,
    resolve_precision,
    seed_everything,
)
from reforge.loop.checkpoint import find_flaw
from reforge.loop.sharding import gather, shard, whole
from reforge.loop.sharding import notes as sharding_notes
from reforge.models import BackboneOptions, Device, Frame
from reforge.models.freezing import freeze
from reforge.runs.build import memory_of_a_worker
from reforge.runs.encoder import Encoder, LoadReport, load_backbone, open_encoder
from reforge.runs.finetune_job import FinetuneJob, FinetunePlan
from reforge.runs.finetune_results import Answers, FinetuneResult, keep_results
from reforge.runs.finished import read_weights
from reforge.runs.folder import RunFolder
from reforge.runs.shared import Shared
from reforge.runs.tracker import Observer, Tracking, run_training
from reforge.runs.working_copy import held
from reforge.spec import UserError, render
from reforge.tasks import RowSet, Task, TaskModel, TaskOptions
from reforge.tasks.data import Sets
from reforge.tasks.splitting import read_texts


@dataclass(frozen=True)
class TaskRows:
    """A task bound to a tokenizer, and the rows that it makes of the sets.

    task_options: the spec's, with all decided that hangs on the training set
    """

    task: Task
    task_options: TaskOptions
    labels: tuple[str, ...]
    train: RowSet
    valid: LabelledSet
    test: LabelledSet | None

    @classmethod
    def of(cls, job: FinetuneJob, sets: Sets, tokenizer: Tokenizer) -> "TaskRows":
        """The rows; raises UserError where there is none to train on."""
        settled = job.task.settle(sets.train)
        labels = settled.labels(sets.train)
        task = settled.bind(labels, tokenizer, job.data.block_tokens)
        train = LabelledSet.of(task, sets.train).rows
        if not len(train):
            raise UserError("data.train: no example gives a row to train on")
        test = LabelledSet.of(task, sets.test) if sets.test else None
        return cls(task, settled, labels, train, LabelledSet.of(task, sets.valid), test)


@dataclass(frozen=True)
class Setup(TaskRows):
    """A fine-tuning's parts before its first step."""

    sets: Sets
    tokenizer: Tokenizer
    model: BackboneOptions
    frame: Frame
    encoder: Encoder | None


def finetune(
    job: FinetuneJob,
    run_folder: Path,
    device: torch.device,
    observe: Observer = lambda event: None,
    on_report: Callable[[StepReport], None] = lambda report: None,
    is_leaving: Callable[[], bool] = lambda: False,
    driver: str = "",
) -> FinetuneResult:
    """Fine-tune `job`, a single run, to its end from where `run_folder` stands; every process must call it.

    `observe` gets progress events on the first process, `on_report` every report on every process; `is_leaving` is
    asked before every step, on every process. Raises UserError for what stops a run and trying again would not mend,
    Leaving at the end of a step before which some process was leaving.
    driver: whoever starts this; processes that it started earlier for this run have ended
    """
    started = time.monotonic()
    with begin_finetuning(job, RunFolder(run_folder), device, observe, driver=driver) as run:
        for report in run.training(is_leaving):
            on_report(report)
        if job.train.keep == "best":
            have_best(run)
            run.world.on_all(lambda: take_best(run.state, run.folder))
        answers = answer(run)
        weights = gather(named_tensors(run.state.model), run.world)
        seconds = time.monotonic() - started
        return run.world.on_first(lambda: keep_results(run, answers, weights, seconds))


@dataclass(frozen=True)
class Finetuning:
    """A run whose folder is held, whose parts are built, and which has not trained yet.

    report: which weights came from where, None from scratch
    """

    job: FinetuneJob
    folder: RunFolder
    setup: Setup
    state: LoopState
    plan: FinetunePlan
    report: LoadReport | None
    data: TaskData
    world: World
    observe: Observer

    def training(self, is_leaving: Callable[[], bool] = lambda: False) -> Iterator[StepReport]:
        """The steps that are left, kept and tracked, until `is_leaving` on some process."""
        tracking = Tracking(
            folder=self.folder,
            title=render(self.job),
            log_every_steps=self.job.train.log_every_steps,
            checkpoint_every_steps=self.plan.eval_every_steps,
            keep_checkpoints=1,
            observe=self.observe,
            panels=lambda board, step: None,
            is_leaving=is_leaving,
        )
        return run_training(self.state, self.data, self.plan, self.job.optimizer, self.world, tracking)


@contextmanager
def begin_finetuning(
    job: FinetuneJob,
    folder: RunFolder,
    device: torch.device,
    observe: Observer,
    shared: Shared | None = None,
    driver: str = "",
) -> Iterator[Finetuning]:
    """The run, held against other processes as long as the context lasts; every process of the world must enter it.

    shared: what earlier runs of this process made
    """
    world = World.current(device)
    with held(folder, job, world, lambda line: observe({"say": line}), job.run.copies, driver) as folder:
        setup = world.on_all(lambda: set_up(job, world, shared))
        state, report = world.on_all(lambda: start_state(job, setup, device))
        plan = job.train.plan(setup.train.steps_in_epoch(job.train.batch_size))
        if world.is_first:
            for line in [*notes(setup, report), *sharding_notes(state.model)]:
                observe({"note": line})
        metric, mode = job.task.goal
        data = TaskData(setup.task, setup.train, setup.valid, Goal(metric, mode))
        yield Finetuning(job, folder, setup, state, plan, report, data, world, observe)


def set_up(job: FinetuneJob, world: World, shared: Shared | None = None) -> Setup:
    """Sets, tokenizer, task, rows and the resolved model's options; the same on every process."""
    shared = shared or Shared()
    of_data = job.data.model_dump_json()
    sets = shared.get("sets", of_data, lambda: Sets.read(job.data))
    encoder = None
    if job.encoder.run is not None:
        encoder = shared.get("encoder", str(job.encoder.run), partial(open_encoder, job.encoder.run, job.run.copies))
        vocabulary = str(job.encoder.run)
        tokenizer = shared.get("tokenizer", vocabulary, lambda: encoder.tokenizer)
    else:
        assert job.tokenizer is not None
        vocabulary = f"{job.tokenizer.model_dump_json()} {of_data}"
        tokenizer = shared.get("tokenizer", vocabulary, lambda: train_tokenizer(job, sets))
    rows = shared.get(
        "rows", f"{job.task.model_dump_json()} {of_data} {vocabulary}", lambda: TaskRows.of(job, sets, tokenizer)
    )
    model, frame = resolve_model(job, encoder, tokenizer.get_vocab_size(), rows.task.num_segments, world)
    return Setup(sets=sets, tokenizer=tokenizer, model=model, frame=frame, encoder=encoder, **vars(rows))


def train_tokenizer(job: FinetuneJob, sets: Sets) -> Tokenizer:
    """The spec's own tokenizer, of the training set's texts."""
    assert job.tokenizer is not None
    return job.tokenizer.train(text for example in sets.train for text in read_texts(example))


def resolve_model(
    job: FinetuneJob, encoder: Encoder | None, vocab_size: int, num_segments: int, world: World
) -> tuple[BackboneOptions, Frame]:
    """The backbone's options with every `auto` decided, and its frame; raises UserError where it cannot be built."""
    options = encoder.options if encoder else job.model
    assert options is not None
    if encoder:
        options = drop_layers(job, options)
        num_segments = max(num_segments, encoder.num_segments)
    if job.encoder.trainable_layers != "all" and job.encoder.trainable_layers > options.depth:
        raise UserError(
            f"encoder.trainable_layers: must be all or at most the {options.depth} layers that there are; got "
            f"{job.encoder.trainable_layers}"
        )
    if job.encoder.dropout is not None:
        options = options.with_dropout(job.encoder.dropout)
    frame = Frame(vocab_size, job.data.block_tokens, encoder.causal if encoder else False, num_segments)
    troubles = [str(problem) for problem in options.fit(frame)]
    if troubles:
        raise UserError("\n".join(troubles))
    bytes_per_value = 2 if resolve_precision(job.train.precision, world.device) == "bf16" else 4
    here = Device(world.device.type, memory_of_a_worker(world), bytes_per_value)
    return options.resolve(frame, job.train.micro_batch_tokens, here)[0], frame


def drop_layers(job: FinetuneJob, options: BackboneOptions) -> BackboneOptions:
    """The run's model without its topmost layers."""
    if job.encoder.drop_last_layers >= options.depth:
        raise UserError(
            f"encoder.drop_last_layers: must leave one of the run's {options.depth} layers at least; got "
            f"{job.encoder.drop_last_layers}"
        )
    return options.without_top(job.encoder.drop_last_layers)


def start_state(job: FinetuneJob, setup: Setup, device: torch.device) -> tuple[LoopState, LoadReport | None]:
    """The state before the first step, and which weights came from where; fresh ones are a function of the seed.

    Where the job says so the state is sharded over the processes of the world.
    """
    seed_everything(job.train.seed, "initialise")
    model = build_model(job, setup.task, setup.model, setup.frame)
    report = None
    if setup.encoder and job.encoder.weights == "run":
        report = load_backbone(model.backbone, setup.encoder, job.encoder.drop_last_layers)
    freeze(model.backbone, job.encoder.trainable_layers)
    if job.scale.strategy == "fsdp":
        shard(model, World.current(device))  # before it is moved: a device need not hold it whole
    model.to(device)
    return LoopState(model, job.optimizer.build(model), job.train.seed, fingerprint(setup, report)), report


def build_model(job: FinetuneJob, task: Task, options: BackboneOptions, frame: Frame) -> TaskModel:
    """Backbone and head, freshly initialised."""
    backbone = options.build(frame)
    head = job.head_options.build(backbone.d_model, task.outputs)
    if frame.causal and head.first_only:
        raise UserError("head.pool: must be mean: the encoder is causal, and its first token, [CLS], sees no other")
    return task.build(backbone, head)


def fingerprint(setup: Setup, report: LoadReport | None) -> str:
    """A digest of what training starts from: rows, labels, the encoder's weights."""
    encoder = setup.encoder.digest if setup.encoder and report else ""
    parts = json.dumps([setup.train.fingerprint(), setup.valid.rows.fingerprint(), list(setup.labels), encoder])
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def notes(setup: Setup, report: LoadReport | None) -> list[str]:
    """What a user should know before the first step."""
    counts = [f"{len(setup.sets.train):,} to train", f"{len(setup.sets.valid):,} to validate"]
    if setup.test:
        counts.append(f"{len(setup.sets.test):,} to test")
    lines = [*setup.sets.notes, f"examples: {', '.join(counts)}", *setup.task.notes()]
    return lines + ([report.summary()] if report else [])


def have_best(run: Finetuning) -> None:
    """The checkpoint that `take_best` reads, on every machine; every process must call it."""
    best, state = run.state.best, run.state
    if best is not None and best.step != state.step:
        run.folder.have(Checkpoints(run.folder.checkpoints).folder_of(best.step).name, run.world)


def take_best(state: LoopState, folder: RunFolder) -> None:
    """The weights that were best on the validation set, into `state`."""
    if state.best is not None and state.best.step != state.step:
        best = Checkpoints(folder.checkpoints).folder_of(state.best.step)
        flaw = find_flaw(best)
        if flaw is not None:
            raise UserError(f"{best}, the best weights, is not complete ({flaw}); train.keep=last takes the last ones")
        load_tensors(state.model, read_weights(best / "model.safetensors"), source=best / "model.safetensors")


def answer(run: Finetuning) -> Answers | None:
    """Predictions for the validation and the test set, on the first process."""
    model, setup = run.state.model, run.setup
    assert isinstance(model, TaskModel)

    def of(labelled: LabelledSet) -> Any:
        precision, at_once = run.plan.precision, run.plan.micro_batch_tokens
        return assess(model, setup.task, labelled, run.world, precision, run.state.seed, at_once)

    with whole(model):
        valid = of(setup.valid)
        test = of(setup.test) if setup.test else None
    return Answers(valid, test) if valid is not None else None
