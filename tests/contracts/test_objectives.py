"""What every objective must do around every backbone; a new line in OBJECTIVES is tested here without a new test."""

from itertools import product

import numpy as np
import pytest
import torch

from reforge.batches import Batch
from reforge.models import BACKBONES, BackboneOptions
from reforge.objectives import OBJECTIVES, Inputs, Objective, Scores, Totals
from reforge.objectives.masking import MaskingOptions
from reforge.tokenizers import Vocabulary

VOCAB, BLOCK = 60, 32
VOCABULARY = Vocabulary(VOCAB, continues_V=np.arange(VOCAB) % 4 == 3, ends_sentence_V=np.arange(VOCAB) == 9)
# Exact attention and no dropout: the scores of a sample do not depend on what it is batched with.
SMALL = {"d_model": 16, "depth": 1, "num_heads": 2}


def small_model(kind: str) -> BackboneOptions:
    return BACKBONES[kind](**SMALL, **({"attention": "exact"} if "attention" in BACKBONES[kind].model_fields else {}))


@pytest.fixture(params=product(OBJECTIVES, BACKBONES), ids="-".join)
def objective(request: pytest.FixtureRequest) -> Objective:
    kind, backbone = request.param
    torch.manual_seed(0)
    return OBJECTIVES[kind]().build(small_model(backbone), VOCABULARY, BLOCK).double()


def batch(num_samples: int = 6) -> Batch:
    random = np.random.default_rng(0)
    ids, partners = (random.integers(5, VOCAB, (num_samples, width)) for width in (BLOCK, BLOCK - 6))
    for rows, length in ((ids, 20), (partners, 12)):
        rows[:, 0] = 2
        rows[:, -1] = 3
        rows[-1, length - 1] = 3
        rows[-1, length:] = 0
    return Batch(ids, np.zeros(num_samples, dtype=np.int64), np.arange(num_samples), partners)


def empty_batch() -> Batch:
    """What a rank without samples and DDP's first pass get: a row of padding."""
    return Batch(np.zeros((1, BLOCK), np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64))


def part(whole: Batch, places: slice) -> Batch:
    return Batch(*(None if values is None else values[places] for values in whole[:4]))


def scores(objective: Objective, inputs: Inputs, seed: int = 0) -> Scores:
    torch.manual_seed(seed)
    result: Scores = objective(**inputs.tensors)
    return result


def fixed_terms(objective: Objective, inputs: Inputs) -> list[str]:
    """The terms that draw nothing at random in the forward pass, and so are sums over samples exactly."""
    first, second = (scores(objective, inputs, seed).losses for seed in (1, 2))
    return [name for name in objective.terms if torch.equal(first[name], second[name])]


def test_scores_and_targets_of_parts_add_up(objective: Objective) -> None:
    whole = objective.eval().collate(batch(), seed=3)
    parts = [objective.collate(part(batch(), places), seed=3) for places in (slice(0, 1), slice(1, 4), slice(4, 6))]
    expected = scores(objective, whole)
    got = [scores(objective, p) for p in parts]
    assert fixed_terms(objective, whole)
    for term in objective.terms:
        assert sum(p.num_targets[term] for p in parts) == whole.num_targets[term] > 0
    for term in fixed_terms(objective, whole):
        total = torch.stack([p.losses[term] for p in got]).sum()
        torch.testing.assert_close(total, expected.losses[term], rtol=1e-6, atol=1e-6)
    if fixed_terms(objective, whole) == list(objective.terms):
        for name in objective.count_names:
            assert sum(p.counts[name] for p in got) == expected.counts[name]


def test_scores_have_the_names_they_promise(objective: Objective) -> None:
    inputs = objective.collate(batch(), seed=3)
    assert inputs.num_targets.keys() == objective.terms.keys()
    assert all(weight > 0 for weight in objective.terms.values())
    for training, count_names in ((True, set()), (False, set(objective.count_names))):
        result = scores(objective.train(training), inputs)
        assert result.losses.keys() == objective.terms.keys()
        assert result.counts.keys() == count_names
        assert all(value.ndim == 0 for value in (*result.losses.values(), *result.counts.values()))


def test_only_an_objective_that_needs_partners_misses_them(
    objective: Objective, request: pytest.FixtureRequest
) -> None:
    options = OBJECTIVES[request.node.callspec.params["objective"][0]]
    assert getattr(objective, "needs_partners", False) == options.needs_partners
    bare = objective.collate(batch()._replace(partners=None), seed=3)
    assert options.needs_partners == any(number == 0 for number in bare.num_targets.values())


def test_collating_is_repeatable_and_masks_are_new_in_every_epoch(objective: Objective) -> None:
    a, b = (objective.collate(batch(), seed=3) for _ in range(2))
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    if isinstance(getattr(objective, "options", None), MaskingOptions):
        later = objective.collate(batch()._replace(epochs=np.ones(6, dtype=np.int64)), seed=3)
        assert not torch.equal(a.tensors["ids_BT"], later.tensors["ids_BT"])


def test_every_parameter_gets_a_gradient_even_from_an_empty_batch(objective: Objective) -> None:
    for b in (batch(), empty_batch()._replace(partners=empty_batch().ids), empty_batch()):
        objective.zero_grad()
        losses = scores(objective, objective.collate(b, seed=1)).losses
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in objective.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    assert not any(parameter.grad.any() for parameter in objective.parameters())  # of the empty batch


def test_padding_adds_nothing(objective: Objective) -> None:
    """Wider rows have the same losses: of full rows no term looks at what is beyond the text."""
    short = part(batch(), slice(0, 3))
    short = short._replace(ids=np.pad(short.ids[:, :20], ((0, 0), (0, 4))))
    short.ids[:, 19] = 3
    wide = short._replace(ids=np.pad(short.ids, ((0, 0), (0, 8))))
    narrow_inputs, wide_inputs = (objective.collate(b, seed=3) for b in (short, wide))
    for term in fixed_terms(objective, narrow_inputs):
        narrow_loss, wide_loss = (scores(objective, inputs).losses[term] for inputs in (narrow_inputs, wide_inputs))
        assert narrow_inputs.num_targets[term] == wide_inputs.num_targets[term]
        torch.testing.assert_close(narrow_loss, wide_loss, rtol=1e-6, atol=1e-6)


def test_metrics_have_their_names_and_the_loss_is_the_weighted_sum(objective: Objective) -> None:
    names = list(objective.terms)
    totals = Totals(
        losses={name: 20.0 + place for place, name in enumerate(names)},
        num_targets=dict.fromkeys(names, 10.0),
        counts=dict.fromkeys(objective.count_names, 4.0),
    )
    metrics = objective.metrics(totals, tokens_per_byte=0.25)
    assert tuple(metrics) == objective.metric_names
    assert metrics["loss"] == pytest.approx(
        sum(weight * (2.0 + 0.1 * place) for place, weight in enumerate(objective.terms.values()))
    )
    assert metrics["bits_per_byte"] == pytest.approx(2.0 / np.log(2) * 0.25)


def test_metrics_of_nothing_are_numbers(objective: Objective) -> None:
    zeros = dict.fromkeys((*objective.terms, *objective.count_names), 0.0)
    assert all(np.isfinite(value) for value in objective.metrics(Totals(zeros, zeros, zeros), 0.25).values())


def test_bf16_autocast_gives_finite_losses_and_gradients(objective: Objective) -> None:
    objective = objective.float()
    inputs = objective.collate(batch(), seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = scores(objective, inputs).losses
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in objective.parameters())
