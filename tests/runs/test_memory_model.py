"""The memory that a job takes: exact where it is counted, in order where it is estimated, near where it is measured."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reforge.heads import HEADS, Outputs
from reforge.models import BACKBONES, Device, Frame, count_parameters, freeze
from reforge.objectives import OBJECTIVES
from reforge.runs.dry_run import dry_run_finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.memory_fit import PROCESS_BYTES, MemoryFit, fits, limit_of_a_trial
from reforge.runs.memory_measure import measure_handed_out, measure_peak
from reforge.runs.memory_model import KnownRows, MemoryEstimate, estimate
from reforge.runs.model_sizes import finetune_sizes, pretrain_sizes
from reforge.runs.trial_memory import TrialMemory
from reforge.tokenizers import Vocabulary

GIB = 2**30
CPU, GPU = Device("cpu", 64 * GIB, 4), Device("cuda", 80 * GIB, 2)
SMALL: dict[str, Any] = {"d_model": 32, "depth": 3, "num_heads": 2}
OUTPUTS = {
    "text": Outputs(3, "text", ("a", "b", "c")),
    "token": Outputs(3, "token", ("O", "B-X", "I-X")),
    "span": Outputs(2, "span"),
}


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_of_every_objective_are_counted_exactly(kind: str, objective: str, tied: bool) -> None:
    part = OBJECTIVES[objective]
    options = part.model_validate({"tie_embeddings": tied} if "tie_embeddings" in part.model_fields else {})
    model = BACKBONES[kind](**SMALL)
    sizes = pretrain_sizes(model, options, 300, 64)
    built = options.build(model, Vocabulary.plain(300), 64)
    assert sizes.num_parameters == sizes.num_trained == count_parameters(built)
    # Every gradient arises once, in one of the stages.
    assert sizes.above + sum(sum(backbone.by_depth) for backbone in sizes.backbones) == sizes.num_trained
    assert len(sizes.backbones) == len(options.passes(model))


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("trainable", ["all", 0, 1, 3])
def test_parameters_under_every_head_are_counted_exactly(kind: str, head: str, trainable: Any) -> None:
    model, options = BACKBONES[kind](**SMALL), HEADS[head](kind=head)
    frame = Frame(300, 64, False, 2)
    for level in options.levels:
        outputs = Outputs(1, level) if options.single_score else OUTPUTS[level]
        sizes = finetune_sizes(model, frame, options, outputs, trainable)
        backbone = model.build(frame)
        top = options.build(backbone.d_model, outputs)
        freeze(backbone, trainable)
        assert sizes.num_parameters == sum(p.numel() for part in (backbone, top) for p in part.parameters())
        assert sizes.num_trained == count_parameters(backbone) + count_parameters(top)
        assert sizes.above + sum(sizes.backbones[0].by_depth) == sizes.num_trained


@pytest.mark.parametrize(
    "larger",
    [
        "model.depth=4",
        "model.d_model=64",
        "model.ff_mult=8",
        "train.micro_batch_tokens=256",
        "tokenizer.vocab_size=20000",
        "model.memory=keep",
    ],
)
def test_what_is_larger_takes_more(larger: str, tiny_job: Callable[..., PretrainJob]) -> None:
    base = ["scale.num_workers=1", "train.global_batch_tokens=1024", "train.micro_batch_tokens=128"]
    base += ["data.block_tokens=32", "model.depth=3"]
    one, two = (estimate(tiny_job(*base, *more), CPU) for more in ([], [larger]))
    assert one.total < two.total


def test_several_workers_hold_the_gradients_twice_and_share_the_batch(tiny_job: Callable[..., PretrainJob]) -> None:
    job = tiny_job("train.global_batch_tokens=256", "train.micro_batch_tokens=256")
    one, two = estimate(job, CPU, num_workers=1), estimate(job, CPU, num_workers=2)
    assert two.activations < one.activations
    assert two.gradients_and_optimizer - two.parameters >= one.gradients_and_optimizer - one.parameters


def test_slices_of_the_model_take_less_the_more_workers_there_are(tiny_job: Callable[..., PretrainJob]) -> None:
    held = {}
    for memory in ("reversible", "keep"):
        size = ("model.d_model=64", "model.depth=8", f"model.memory={memory}")
        copied, sliced = tiny_job(*size), tiny_job(*size, "scale.strategy=fsdp")
        assert estimate(sliced, CPU, num_workers=1) == estimate(copied, CPU, num_workers=1)
        found = [estimate(sliced, CPU, num_workers=number) for number in (2, 4, 64)]
        assert [one.total for one in found] == sorted((one.total for one in found), reverse=True)
        assert found[0].gradients_and_optimizer < estimate(copied, CPU, num_workers=2).gradients_and_optimizer
        held[memory] = found[-1].parameters + found[-1].gradients_and_optimizer
    assert held["keep"] < 0.7 * held["reversible"]  # whole a layer at a time, or all of them at once


def test_bf16_halves_what_is_kept_inside_layers(tiny_job: Callable[..., PretrainJob]) -> None:
    job = tiny_job("model={kind: transformer, d_model: 64, depth: 4, num_heads: 2}", "train.micro_batch_tokens=8192")
    job = job.model_copy(update={"train": job.train.model_copy(update={"global_batch_tokens": 8192})})
    wide, narrow = estimate(job, CPU).activations, estimate(job, CPU._replace(bytes_per_value=2)).activations
    assert 0.5 < narrow / wide < 0.75


def test_frozen_layers_have_no_gradients_and_keep_nothing(
    finetune_job: Callable[..., FinetuneJob],
) -> None:
    job = finetune_job("model.depth=4", "data.block_tokens=128", "train.micro_batch_tokens=2048")
    # A number of layers needs a run to take them from; what is estimated is the same without.
    frozen = [
        job.model_copy(update={"encoder": job.encoder.model_copy(update={"trainable_layers": count})})
        for count in (0, 1, 2, 4, "all")
    ]
    found = [estimate(one, CPU) for one in frozen]
    assert len({one.parameters for one in found}) == 1
    assert [one.total for one in found] == sorted(one.total for one in found)
    assert found[0].gradients_and_optimizer < 0.2 * found[0].parameters
    assert found[0].activations < 0.5 * found[-1].activations


def test_rows_that_are_known_to_be_short_take_less(finetune_job: Callable[..., FinetuneJob]) -> None:
    job = finetune_job("data.block_tokens=512", "train.batch_size=16", "train.micro_batch_tokens=8192")
    assert estimate(job, CPU, rows=KnownRows(longest=64)).total < estimate(job, CPU).total / 2


def test_rows_that_are_not_drawn_take_nothing_and_chance_is_allowed_for(
    finetune_job: Callable[..., FinetuneJob],
) -> None:
    job = finetune_job("data.block_tokens=64", "train.batch_size=64", "train.micro_batch_tokens=4096")
    whole, drawn, lucky = (estimate(job, CPU, rows=KnownRows(drawn_share=share)) for share in (1.0, 0.25, 0.0))
    assert lucky.activations < whole.activations * 0.25 < drawn.activations < whole.activations * 0.5


@pytest.mark.parametrize("kind", BACKBONES)
def test_an_estimate_takes_milliseconds(kind: str, tiny_job: Callable[..., PretrainJob]) -> None:
    model = f"model={{kind: {kind}, d_model: 512, depth: 6, num_heads: 8}}"
    job = tiny_job(model, "tokenizer.vocab_size=16000", "objective={kind: electra}")
    estimate(job, GPU)
    started = time.process_time()
    other = job.model_copy(update={"model": job.model.model_copy(update={"d_model": 768})})
    estimate(other, GPU)
    assert time.process_time() - started < 0.2  # 20 to 35 ms, on a machine that does nothing else


def test_one_point_gives_a_scale_and_several_a_line_that_one_mistake_does_not_bend() -> None:
    assert MemoryFit.of([(100, 150)]).slope == 1.5
    points = [(x, 50 + 1.25 * x) for x in (100, 200, 400, 800, 1600)]
    fit = MemoryFit.of([*points, (300, 3000)])
    assert (fit.intercept, fit.slope) == pytest.approx((50, 1.25))
    assert MemoryFit.of([]).slope == 1
    grown = MemoryFit()
    for x, y in points:
        grown = grown.with_point(x, int(y))
    assert grown.slope == pytest.approx(1.25)
    assert MemoryFit.of_json(json.loads(json.dumps(grown.as_json()))) == grown


def test_a_fit_never_predicts_less_than_the_weights() -> None:
    estimated = MemoryEstimate(1000, 3000, 10, 0)
    assert MemoryFit.of([(10_000, 5_100)]).predict(estimated) == 4000


def test_what_does_not_fit_says_how_much_is_missing_and_for_what(tiny_job: Callable[..., PretrainJob]) -> None:
    job = tiny_job("model.d_model=1024", "model.num_heads=8", "tokenizer.vocab_size=16000")
    assert fits(job, 4 * GIB, CPU) == ""
    why = fits(job, GIB // 2, CPU)
    assert why.startswith("needs about ")
    assert "of 0.50 GiB: parameters 0." in why
    assert "gradients and optimizer" in why
    assert "\n" not in why
    needed = MemoryFit().predict(estimate(job, CPU))
    assert fits(job, needed, CPU, headroom=0.0) == ""
    assert fits(job, needed, CPU, headroom=0.1)


def test_a_trial_may_take_its_share() -> None:
    assert limit_of_a_trial(GPU, gpus=0.25, trials_at_a_time=4) == 20 * GIB
    limit = limit_of_a_trial(CPU, gpus=0, trials_at_a_time=4, num_workers=2)
    assert 8 * (limit + PROCESS_BYTES) + PROCESS_BYTES == CPU.memory_bytes
    assert limit_of_a_trial(CPU._replace(memory_bytes=GIB // 4), gpus=0, trials_at_a_time=1) == 0


@pytest.mark.long
@pytest.mark.slow  # starts a process for each of two trainings
def test_the_estimate_is_near_what_torch_hands_out(
    tiny_job: Callable[..., PretrainJob],
    finetune_job: Callable[..., FinetuneJob],
    prepared_folder: Path,
    tmp_path: Path,
) -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(["ra", "mo", "ti", "lu"], k=100)) + f"\t{rng.choice('ab')}" for _ in range(100)]
    file = tmp_path / "long.tsv"
    file.write_text("\n".join(["text\tlabel", *texts]) + "\n", encoding="utf-8")
    model = "model={kind: transformer, d_model: 128, depth: 3, num_heads: 2}"
    sizes = ["train.micro_batch_tokens=2048", "scale.num_workers=1", model]
    pretraining = tiny_job(*sizes, "train.global_batch_tokens=2048")
    finetuning = finetune_job(
        *sizes, f"data.train.path={file}", "data.block_tokens=128", "train.batch_size=16", "head={kind: cnn}"
    )
    for job, folder in ((pretraining, prepared_folder), (finetuning, None)):
        run = measure_handed_out(job, folder)
        assert 0.85 < run.estimated_bytes / run.measured_bytes < 1.15
        resident = measure_peak(job, torch.device("cpu"), folder)
        assert resident.measured_bytes > 0.8 * run.measured_bytes


def test_a_dry_run_of_a_fine_tuning_reports_and_writes_nothing_but_what_the_next_trials_take(
    finetune_job: Callable[..., FinetuneJob], tmp_path: Path
) -> None:
    sizes = ["data.block_tokens=512", "train.batch_size=32", "train.micro_batch_tokens=16384"]
    job, other = finetune_job("name=dry", *sizes), finetune_job(*sizes, "data.block_tokens=500")
    run = dry_run_finetune(job, torch.device("cpu"))
    assert len(run.losses) == 2
    assert min(run.tokens_per_second, run.estimated_bytes, run.train_tokens) > 0
    assert any("examples" in note for note in run.notes)
    assert not job.folder.exists()
    unknown = TrialMemory.of(CPU, 0, 1, 1, tmp_path / "memory.json")
    known = unknown.with_run(job, run)
    # The vocabulary that was trained is smaller than the spec's.
    assert run.estimated_bytes <= known.estimate(job).total < unknown.estimate(job).total / 2
    assert known.estimate(other) == unknown.estimate(other)  # its rows may be other ones
    known.keep(tmp_path / "memory.json")
    assert TrialMemory.of(CPU, 0, 1, 1, tmp_path / "memory.json") == known
