"""ELECTRA: what is drawn, what counts as replaced, what is shared, and that a run of it can be stopped and loaded."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models

import reforge
from reforge.batches import Batch
from reforge.loop import StepReport, named_tensors
from reforge.models import BACKBONES, count_parameters
from reforge.objectives import Totals
from reforge.objectives.electra import Electra, ElectraOptions, count_found, detection_loss, draw_token, put
from reforge.objectives.masking import MASK_ID
from reforge.objectives.show_replaced import show_replaced
from reforge.runs import PretrainJob, RunFolder, pretrain
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

VOCAB, BLOCK = 60, 32
CPU = torch.device("cpu")


def model(backbone: str = "reformer", **options: float) -> Electra:
    torch.manual_seed(0)
    small = BACKBONES[backbone](d_model=32, depth=1, num_heads=4, attention="exact", position="absolute")
    return ElectraOptions(**options).build(small, Vocabulary.plain(VOCAB), BLOCK).eval()


def batch(num_samples: int = 6) -> Batch:
    ids = np.random.default_rng(0).integers(len(SPECIAL_TOKENS), VOCAB, (num_samples, BLOCK))
    ids[:, 0], ids[:, 9], ids[-1, 20:] = 2, 3, 0
    return Batch(ids, np.zeros(num_samples, dtype=np.int64), np.arange(num_samples))


def test_drawn_tokens_are_as_frequent_as_the_softmax_says() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -5.0])
    torch.manual_seed(0)
    num_draws = 50_000
    counts = draw_token(logits.expand(num_draws, 5)).bincount(minlength=5)
    probs = logits.softmax(-1)
    error = (counts / num_draws - probs) / (probs * (1 - probs) / num_draws).sqrt()
    assert error.abs().max() < 4


def test_draws_are_a_function_of_torchs_random_state_in_evaluation_too() -> None:
    objective = model()
    inputs = objective.collate(batch(), seed=1)
    counts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        counts.append(objective(**inputs.tensors).losses["discriminator"].item())
    assert counts[0] == counts[1] != counts[2]


def test_every_hidden_token_is_masked_before_it_is_drawn() -> None:
    inputs = model().collate(batch(), seed=1)
    assert (inputs.tensors["ids_BT"].flatten()[inputs.tensors["places_N"]] == MASK_ID).all()
    restored = put(inputs.tensors["ids_BT"], inputs.tensors["places_N"], inputs.tensors["targets_N"])
    assert np.array_equal(restored.numpy(), batch().ids)


def test_a_drawn_token_equal_to_the_original_is_original() -> None:
    objective = model()
    b = batch()
    inputs = objective.collate(b, seed=1)
    originals = inputs.tensors["targets_N"]
    favourite = int(originals.mode().values)
    with torch.no_grad():
        objective.output.bias[favourite] = 1e6  # the generator always says the same
    counts = objective(**inputs.tensors).counts
    assert counts["actual_positives"] == (originals != favourite).sum() < len(originals)
    assert counts["generator_correct"] == (originals == favourite).sum() > 0


def test_special_tokens_and_padding_are_not_asked_about() -> None:
    objective = model()
    for parameter in objective.detector.parameters():
        torch.nn.init.zeros_(parameter)
    inputs = objective.collate(batch(), seed=1)
    assert inputs.num_targets["discriminator"] == 5 * 30 + 18
    loss = objective(**inputs.tensors).losses["discriminator"].item()
    assert loss == pytest.approx(inputs.num_targets["discriminator"] * np.log(2), rel=1e-5)


def test_the_discriminators_loss_and_counts_are_those_of_a_small_case() -> None:
    logits = torch.tensor([[2.0, -1.0, 3.0, -2.0], [0.5, -0.5, 9.0, 9.0]])
    replaced = torch.tensor([[True, True, False, False], [True, False, True, False]])
    scored = torch.tensor([[True, True, True, True], [True, True, False, False]])
    terms = [np.log1p(np.exp(x)) for x in (-2.0, 1.0, 3.0, -2.0, -0.5, -0.5)]
    assert detection_loss(logits, replaced, scored).item() == pytest.approx(sum(terms))
    counts = {name: value.item() for name, value in count_found(logits > 0, replaced, scored).items()}
    assert counts == {
        "discriminator_correct": 4, "true_positives": 2, "predicted_positives": 3, "actual_positives": 3,
    }  # fmt: skip


def test_metrics_are_those_of_the_counts() -> None:
    counts = {
        "generator_correct": 3.0, "discriminator_correct": 90.0, "true_positives": 6.0, "predicted_positives": 8.0,
        "actual_positives": 12.0,
    }  # fmt: skip
    targets = {"generator": 15.0, "discriminator": 100.0}
    metrics = model().metrics(Totals({"generator": 30.0, "discriminator": 40.0}, targets, counts), 0.5)
    assert metrics["loss"] == pytest.approx(2.0 + 50 * 0.4)
    assert (metrics["generator_loss"], metrics["discriminator_loss"]) == (2.0, 0.4)
    assert metrics["bits_per_byte"] == pytest.approx(2.0 / np.log(2) * 0.5)
    assert (metrics["masked_accuracy"], metrics["discriminator_accuracy"]) == (0.2, 0.9)
    assert (metrics["replaced_precision"], metrics["replaced_recall"]) == (0.75, 0.5)


def test_the_relative_loss_is_one_without_skill_however_many_are_replaced() -> None:
    for share in (0.1, 0.25):
        knows_the_share = -share * math.log(share) - (1 - share) * math.log(1 - share)
        counts = dict.fromkeys(Electra.count_names, 0.0) | {"actual_positives": 100 * share}
        targets = {"generator": 15.0, "discriminator": 100.0}
        for skill in (0.0, 0.5):
            losses = {"generator": 30.0, "discriminator": 100 * knows_the_share * (1 - skill)}
            metrics = model().metrics(Totals(losses, targets, counts), 0.5)
            assert metrics["relative_discriminator_loss"] == pytest.approx(1 - skill)


def test_precision_and_recall_of_nothing_are_zero() -> None:
    zeros = dict.fromkeys(Electra.count_names, 0.0)
    metrics = model().metrics(
        Totals({"generator": 1.0, "discriminator": 1.0}, {"generator": 1.0, "discriminator": 1.0}, zeros), 0.5
    )
    assert metrics["replaced_precision"] == metrics["replaced_recall"] == 0
    assert metrics["relative_discriminator_loss"] == 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_generator_is_smaller_and_shares_its_embeddings(backbone: str) -> None:
    objective = model(backbone)
    assert objective.generator.d_model == 8
    assert objective.generator.token_weight is objective.backbone.token_weight
    assert objective.output.matrix() is objective.backbone.token_weight
    names = [name for name, _ in objective.named_parameters()]
    assert len(set(names)) == len(names)
    with_vocabulary = [name for name, p in objective.named_parameters() if VOCAB in p.shape]
    assert [name.split(".")[0] for name in with_vocabulary] == ["backbone", "output"]
    assert [name.split(".")[0] for name in names if "pos" in name] == ["backbone"]
    embeddings = (VOCAB + BLOCK) * 32
    assert count_parameters(objective.generator) - embeddings < count_parameters(objective.backbone) - embeddings
    alone = BACKBONES[backbone](d_model=32, depth=1, num_heads=4, attention="exact", position="absolute")
    assert {name for name, _ in objective.backbone.named_parameters()} == {
        name for name, _ in alone.build(objective.backbone.frame).named_parameters()
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_discriminator_teaches_the_generator_nothing_but_embeddings(backbone: str) -> None:
    objective = model(backbone)
    losses = objective(**objective.collate(batch(), seed=1).tensors).losses
    shared = {id(p) for p in objective.backbone.parameters()} & {id(p) for p in objective.generator.parameters()}
    assert shared
    for term, own, other in (
        ("generator", objective.generator, objective.backbone),
        ("discriminator", objective.backbone, objective.generator),
    ):
        objective.zero_grad()
        losses[term].backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.any() for p in own.parameters() if id(p) in shared)
        assert any(p.grad is not None and p.grad.any() for p in own.parameters() if id(p) not in shared)
        assert not any(p.grad is not None and p.grad.any() for p in other.parameters() if id(p) not in shared)


def learn(objective: Electra, terms: list[str], num_steps: int, lr: float) -> dict[str, float]:
    """Metrics, under new masks, after training by these terms on rows that say one word over and over."""
    ids = np.repeat(np.random.default_rng(0).integers(len(SPECIAL_TOKENS), VOCAB, (64, 1)), BLOCK, axis=1)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=lr)
    torch.manual_seed(1)
    for epoch in range(num_steps):
        inputs = objective.collate(Batch(ids, np.full(64, epoch), np.arange(64)), seed=1)
        losses = objective.train()(**inputs.tensors).losses
        sum(objective.terms[name] * losses[name] / inputs.num_targets[name] for name in terms).backward()
        optimizer.step()
        objective.zero_grad()
    inputs = objective.collate(Batch(ids, np.full(64, -1), np.arange(64)), seed=1)
    scores = objective.eval()(**inputs.tensors)
    losses, counts = ({name: value.item() for name, value in values.items()} for values in scores)
    return objective.metrics(Totals(losses, inputs.num_targets, counts), 1.0)


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_generator_learns(backbone: str) -> None:
    objective = model(backbone)
    metrics = learn(objective, ["generator", "discriminator"], num_steps=90, lr=1e-2)
    assert metrics["masked_accuracy"] > 0.8, metrics
    assert metrics["generator_loss"] < 1, metrics


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_discriminator_learns_what_a_poor_generator_replaced(backbone: str) -> None:
    objective = model(backbone)
    metrics = learn(objective, ["discriminator"], num_steps=60, lr=3e-3)
    assert metrics["masked_accuracy"] < 0.2, metrics
    assert metrics["replaced_precision"] > 0.9, metrics
    assert metrics["replaced_recall"] > 0.4, metrics


def test_a_ratio_beyond_one_or_without_a_generator_is_refused() -> None:
    for ratio in (0.0, 1.5):
        with pytest.raises(ValueError, match="generator_ratio"):
            ElectraOptions(generator_ratio=ratio)
    assert model(generator_ratio=0.001).generator.d_model == 8  # one head is left
    assert model(generator_ratio=1.0).generator.d_model == 32


def test_a_generator_keeps_a_head_that_sees_far() -> None:
    options = BACKBONES["reformer"](d_model=32, depth=1, num_heads=4, n_local_attn_heads=2)
    for ratio in (0.01, 0.25, 0.5, 1.0):
        assert not any(options.scaled(ratio).problems())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokens = [*SPECIAL_TOKENS, *(f"w{n}" for n in range(VOCAB - len(SPECIAL_TOKENS)))]
    tokenizer = Tokenizer(models.WordPiece({token: n for n, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def test_a_sample_names_what_was_replaced_found_and_wrongly_suspected(tokenizer: Tokenizer) -> None:
    original = np.array([2, 5, 6, 7, 8, 9, 3, 10, 0])
    corrupted = np.array([2, 5, 20, 7, 8, 30, 3, 10, 0])
    probs = np.array([0.9, 0.1, 0.75, 0.6, 0.2, 0.3, 0.9, 0.9, 0.9])
    sample = show_replaced(tokenizer, 5, original, corrupted, probs)
    assert sample is not None
    assert sample.text == "w0 [w15] w2 w3 [w25]"
    assert sample.outcome == "w15 (was w1) found 75%  w25 (was w4) missed 30%    false alarms: w2 60%"
    assert show_replaced(tokenizer, 5, original, original, probs) is None


def test_samples_of_blocks_show_what_the_generator_drew(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    samples = model().samples(tokenizer, batch().ids)
    assert 4 <= len(samples) <= 6
    assert all("[w" in sample.text and "(was w" in sample.outcome for sample in samples)


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_killed_run_goes_on_to_the_same_weights_and_loads(
    backbone: str, tiny_job: Callable[..., PretrainJob], prepared_folder: Path
) -> None:
    def kill(report: StepReport) -> None:
        if report.step == 3:
            raise Killed

    small = f"{{kind: {backbone}, d_model: 32, depth: 1, num_heads: 4}}"
    jobs = [
        tiny_job(
            f"name=electra-{backbone}-{n}", "objective={kind: electra}", f"model={small}", "train.max_steps=4",
            "train.checkpoint_every_steps=2",
        )
        for n in range(2)
    ]  # fmt: skip
    whole, killed = (RunFolder(job.folder) for job in jobs)
    result = pretrain(jobs[0], whole.path, prepared_folder, CPU)
    with pytest.raises(Killed):
        pretrain(jobs[1], killed.path, prepared_folder, CPU, on_report=kill)
    pretrain(jobs[1], killed.path, prepared_folder, CPU)
    assert killed.weights.read_bytes() == whole.weights.read_bytes()
    for file in ("model.safetensors", "optimizer.safetensors"):
        left, right = (folder.checkpoints / "step-00000004" / file for folder in (whole, killed))
        assert left.read_bytes() == right.read_bytes()
    loaded, _ = reforge.load(whole.path)
    stored = load_file(whole.weights)
    assert stored.keys() == named_tensors(loaded).keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in named_tensors(loaded).items())
    assert isinstance(loaded, Electra)
    assert loaded.generator.token_weight is loaded.backbone.token_weight
    assert tuple(result.metrics) == Electra.metric_names
