"""How much memory one worker of a job takes at its peak, known before anything is built or read.

    options --meta device--> exact parameters --+
    micro-batch --operators--> activations -----+--> stages of the backward pass --most at any of them--> MemoryEstimate

While the backward pass runs from the loss down, gradients come and activations go: the peak is at one of its stages,
not the sum of all there is. What the allocator adds is no part of the estimate: `MemoryFit` learns it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from reforge.heads import Outputs
from reforge.loop import World, resolve_precision
from reforge.models import BackboneOptions, Device, Frame, MicroStep
from reforge.objectives.output import rows_at_once
from reforge.runs.build import memory_of_a_worker
from reforge.runs.encoder import Encoder, open_encoder
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.model_sizes import BackboneSizes, ModelSizes, finetune_sizes, pretrain_sizes
from reforge.runs.trial_job import TrialJob
from reforge.tokenizers import TokenizerOptions

FLOAT = 4
# Of the output layers between hidden states and logits, in widths: a dense layer, its activation, a norm.
OUTPUT_WIDTHS = 3
# How far above its mean a random number of rows is looked for.
DEVIATIONS = 2.5


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one worker at the moment when it has most in use.

    parameters: all weights, frozen ones too
    gradients_and_optimizer: AdamW's two averages of what is trained, and the gradients that are there at that moment
    activations: what is kept for the backward pass and what a layer needs while it runs
    logits: over the vocabulary, with their gradients
    """

    parameters: int
    gradients_and_optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients_and_optimizer + self.activations + self.logits


class KnownRows(NamedTuple):
    """What a fine-tuning's data decide; without it a row has data.block_tokens tokens, a unit each.

    longest: tokens of the longest row
    units_share: of a row's tokens those that a tagger looks at, at most
    drawn_share: of the rows those that an epoch trains on, in the mean
    labels: classes or tags
    """

    longest: int | None = None
    units_share: float = 1.0
    drawn_share: float = 1.0
    labels: tuple[str, ...] = ()


class Stage(NamedTuple):
    """A stretch of the backward pass: bytes kept for it, those on top while it runs, and the gradients it makes."""

    kept: int
    working: int
    gradients: int
    logits: int = 0


class Workers(NamedTuple):
    """How many workers train together, and whether each holds all of the model."""

    number: int
    strategy: Literal["ddp", "fsdp"] = "ddp"

    @property
    def num_slices(self) -> int:
        """Of how many slices of the model a worker holds one."""
        return self.number if self.strategy == "fsdp" else 1


def device_of(job: TrialJob, world: World) -> Device:
    """The device that a worker of `world` has, for this job's precision."""
    precision = resolve_precision(job.train.precision, world.device)
    return Device(world.device.type, memory_of_a_worker(world), 2 if precision == "bf16" else 4)


def estimate(
    job: TrialJob, device: Device, num_workers: int = 1, vocab_size: int | None = None, rows: KnownRows | None = None
) -> MemoryEstimate:
    """The peak of one of `num_workers` workers on such devices; no data are read.

    vocab_size: where it is known better than from the spec's tokenizer (a small corpus gives less)
    """
    if isinstance(job, PretrainJob):
        return estimate_pretraining(job, device, num_workers, vocab_size or vocab_size_of(job.tokenizer))
    return estimate_finetuning(job, device, num_workers, vocab_size, rows or KnownRows())


def estimate_pretraining(job: PretrainJob, device: Device, num_workers: int, vocab_size: int) -> MemoryEstimate:
    """The peak: every pass of the objective, from the logits down."""
    block, frame = job.data.block_tokens, job.objective.frame(vocab_size, job.data.block_tokens)
    num_tokens = job.micro_batch_tokens(num_workers)
    accumulates = -(-job.train.global_batch_tokens // block // num_workers) > num_tokens // block
    model, _ = job.model.resolve(frame, num_tokens, device)
    sizes = pretrain_sizes(model, job.objective, vocab_size, block)
    kept_above, logits, stages = 0, Logits(0, 0), list[Stage]()
    for part, layers in zip(reversed(job.objective.passes(model)), sizes.backbones, strict=True):
        num_targets = int(num_tokens * part.target_share)
        places = num_targets if part.at_targets else None
        step = MicroStep(num_tokens, frame, device.bytes_per_value, device.kind, places)
        stages += backbone_stages(part.model, step, layers, part.model.depth)
        width = OUTPUT_WIDTHS * part.model.d_model * device.bytes_per_value
        kept_above += width * (places or num_tokens)
        if num_targets:
            logits = logits_of(num_targets, vocab_size, part.model.d_model, device)
    above = output_stages(kept_above, logits, FLOAT * sizes.above)
    return peak([*above, *stages], sizes, device, Workers(num_workers, job.scale.strategy), accumulates)


class Logits(NamedTuple):
    """Bytes of a chunk of logits and its copies, and whether there are several (objectives/output.py)."""

    chunk: int
    copies: int
    is_chunked: bool = False


def logits_of(num_targets: int, vocab_size: int, width: int, device: Device) -> Logits:
    """What stands at once: logits, softmax and gradient, of one chunk or what is left of the one before."""
    rows = rows_at_once(vocab_size, width, device.kind)
    narrow = 2 if device.bytes_per_value == 2 else 0
    return Logits(min(num_targets, rows) * vocab_size * (FLOAT + narrow), 3, num_targets > rows)


def output_stages(kept: int, logits: Logits, gradients: int) -> list[Stage]:
    """The output layers': with several chunks the gradient of the matrix is there from the first, else at the end."""
    if logits.is_chunked:
        return [Stage(kept, 0, gradients, logits.copies * logits.chunk)]
    return [Stage(kept, 0, 0, logits.copies * logits.chunk), Stage(0, 0, gradients, logits.chunk)]


def estimate_finetuning(
    job: FinetuneJob, device: Device, num_workers: int, vocab_size: int | None, rows: KnownRows
) -> MemoryEstimate:
    """The peak: the head, the trained layers, and below them layers that only run."""
    encoder = encoder_of(job.encoder.run, job.run.copies) if job.encoder.run is not None else None
    longest = min(rows.longest or job.data.block_tokens, job.data.block_tokens)
    rows_a_worker, at_once = -(-job.train.batch_size // num_workers), max(1, job.train.micro_batch_tokens // longest)
    # Rows a little shorter than the longest may fill the micro-batch to the last token.
    num_tokens = min(rows_a_worker * longest, max(job.train.micro_batch_tokens, longest))
    num_tokens = max(longest, int(num_tokens * most_drawn(min(rows_a_worker, at_once), rows.drawn_share)))
    options, frame = model_of(job, encoder, vocab_size)
    options, _ = options.resolve(frame, job.train.micro_batch_tokens, device)
    outputs = outputs_of(job, rows.labels)
    trainable = job.encoder.trainable_layers
    sizes = finetune_sizes(options, frame, job.head_options, outputs, trainable)
    num_units = num_head_units(job, sizes, num_tokens, min(rows_a_worker, at_once), rows)
    places = num_units if sizes.first_only or outputs.level == "token" else None
    step = MicroStep(num_tokens, frame, device.bytes_per_value, device.kind, places)
    num_trained = options.depth if trainable == "all" else min(trainable, options.depth)
    head = job.head_options.activation_values(options.d_model, outputs) * FLOAT * num_units
    stages = [Stage(head, head, FLOAT * sizes.above)]
    stages += backbone_stages(options, step, sizes.backbones[0], num_trained)
    return peak(stages, sizes, device, Workers(num_workers, job.scale.strategy), accumulates=rows_a_worker > at_once)


def most_drawn(num_rows: int, share: float) -> float:
    """Of `num_rows` rows the share that is drawn at most, in all but some of a thousand draws."""
    return min(1.0, share + DEVIATIONS * math.sqrt(share * (1 - share) / num_rows))


def num_head_units(job: FinetuneJob, sizes: ModelSizes, num_tokens: int, num_rows: int, rows: KnownRows) -> int:
    """How many states of a micro-batch the head looks at."""
    if sizes.first_only:
        return num_rows
    return int(num_tokens * rows.units_share) if job.task.level == "token" else num_tokens


def backbone_stages(options: BackboneOptions, step: MicroStep, sizes: BackboneSizes, num_trained: int) -> list[Stage]:
    """The backward pass through the upper `num_trained` layers, top first."""
    parts = options.activations(step._replace(num_trained=num_trained))
    if not num_trained:
        return [Stage(0, parts.passing, 0)]
    is_whole = num_trained == options.depth
    gradients = [FLOAT * number for number in sizes.by_depth]
    stages = [Stage(parts.last, parts.last_working, gradients[options.depth + 1] + gradients[options.depth])]
    below = range(options.depth - 1, options.depth - num_trained, -1)
    stages += [Stage(parts.layer, parts.working, gradients[depth]) for depth in below]
    stages.append(Stage(parts.outside, FLOAT * sizes.again if is_whole else 0, gradients[0]))
    return stages if is_whole else [*stages, Stage(0, parts.passing, 0)]


def peak(
    stages: Sequence[Stage], sizes: ModelSizes, device: Device, workers: Workers, accumulates: bool
) -> MemoryEstimate:
    """The estimate at the stage that has most in use.

    Autocast keeps matrices in bfloat16 beside those in float32.
    """
    parameters, averages, between = between_passes(sizes, workers)
    casts = 2 * sizes.num_cast if device.bytes_per_value == 2 else 0
    moments = [between]
    for number, stage in enumerate(stages):
        kept = sum(other.kept for other in stages[number:])
        gradients = gradients_at(number, stages, sizes, workers, accumulates)
        moments.append(MemoryEstimate(parameters, averages + gradients, kept + stage.working + casts, stage.logits))
    return max(moments, key=lambda moment: moment.total)


def between_passes(sizes: ModelSizes, workers: Workers) -> tuple[int, int, MemoryEstimate]:
    """Bytes of the weights and of AdamW's averages during a pass, and what there is at most outside of one.

    That is the update. DistributedDataParallel holds gradients twice. In slices it is the moment when the gradients
    are sent to be added up or, by layer, evaluation: every worker has all weights for it, beside its slice.
    """
    parameters, trained = FLOAT * sizes.num_parameters, FLOAT * sizes.num_trained
    if workers.num_slices == 1:
        averages = 2 * trained + (trained if workers.number > 1 else 0)
        return parameters, averages, MemoryEstimate(parameters, averages + trained, 0, 0)
    whole, averages = parameters + parameters // workers.num_slices, 2 * trained // workers.num_slices
    if not sizes.apart:
        sent = 2 * trained + trained // workers.num_slices
        return whole, averages, MemoryEstimate(whole, averages + sent, 0, 0)
    running = FLOAT * (2 * max(sizes.apart) - sum(sizes.apart))  # a layer, and the next is on its way
    return whole + running, averages, MemoryEstimate(whole, averages, 0, 0)


def gradients_at(number: int, stages: Sequence[Stage], sizes: ModelSizes, workers: Workers, accumulates: bool) -> int:
    """Bytes of the gradients that are there in a stage.

    Where those of several micro-batches add up all are there from the start. By layer they are added up in slices.
    """
    trained, here = FLOAT * sizes.num_trained, stages[number].gradients
    if workers.num_slices > 1 and sizes.apart:
        outside = FLOAT * (sizes.num_parameters - sum(sizes.apart))
        return min(trained, outside) + 2 * here + trained // workers.num_slices
    if accumulates:
        return trained + min(here, FLOAT * sizes.largest)
    return sum(stage.gradients for stage in stages[: number + 1])


@lru_cache(maxsize=64)
def vocab_size_of(tokenizer: TokenizerOptions) -> int:
    """The most tokens that it may have; of one that is there already, those that it has."""
    if tokenizer.is_trained and tokenizer.vocab_size is not None:
        return tokenizer.vocab_size
    return tokenizer.train(()).get_vocab_size()


@lru_cache(maxsize=16)
def encoder_of(run: Path, cache: Path) -> Encoder:
    """The encoder of a run, opened once: it is finished, and no longer changes."""
    return open_encoder(run, cache)


def model_of(job: FinetuneJob, encoder: Encoder | None, vocab_size: int | None) -> tuple[BackboneOptions, Frame]:
    """The backbone under the head and its frame, as a run has them before `auto` is decided."""
    options, num_segments, block = job.model, job.task.num_segments, job.data.block_tokens
    if encoder is not None:
        options = encoder.options.without_top(min(job.encoder.drop_last_layers, encoder.options.depth - 1))
        frame = Frame(encoder.vocab_size, block, encoder.causal, max(num_segments, encoder.num_segments))
    else:
        assert job.tokenizer is not None
        frame = Frame(vocab_size or vocab_size_of(job.tokenizer), block, False, num_segments)
    assert options is not None
    if job.encoder.dropout is not None:
        options = options.with_dropout(job.encoder.dropout)
    return options, frame


def outputs_of(job: FinetuneJob, labels: tuple[str, ...]) -> Outputs:
    """What the head is to give; two classes, or one type of entity, where the labels are not known."""
    if job.task.level == "span":
        return Outputs(2, "span")
    if job.task.single_score:
        return Outputs(1, job.task.level)
    names = labels or (("O", "B-X", "I-X") if job.task.level == "token" else ("a", "b"))
    return Outputs(len(names), job.task.level, names)
