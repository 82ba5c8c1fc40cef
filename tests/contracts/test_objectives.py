"""What every objective must do; a new line in OBJECTIVES is tested here without a new test."""

import numpy as np
import pytest
import torch

from reforge.batches import Batch
from reforge.models.reformer import ReformerOptions
from reforge.objectives import OBJECTIVES, Objective, Totals

VOCAB, BLOCK = 60, 32
# Exact attention and no dropout: the scores of a sample do not depend on what it is batched with.
BACKBONE = ReformerOptions(d_model=16, depth=1, num_heads=2, bucket_size=8, full_attn_thres=BLOCK)


@pytest.fixture(params=OBJECTIVES)
def objective(request: pytest.FixtureRequest) -> Objective:
    torch.manual_seed(0)
    return OBJECTIVES[request.param]().build(BACKBONE.build(VOCAB, BLOCK), VOCAB).double()


def batch(num_samples: int = 6) -> Batch:
    ids = np.random.default_rng(0).integers(5, VOCAB, (num_samples, BLOCK))
    ids[:, 0] = 2
    ids[-1, 20:] = 0
    return Batch(ids, np.zeros(num_samples, dtype=np.int64), np.arange(num_samples))


def part(whole: Batch, places: slice) -> Batch:
    return Batch(whole.ids[places], whole.epochs[places], whole.samples[places])


def test_scores_of_parts_add_up(objective: Objective) -> None:
    whole = objective.collate(batch(), seed=3)
    parts = [objective.collate(part(batch(), places), seed=3) for places in (slice(0, 1), slice(1, 4), slice(4, 6))]
    assert sum(p.num_targets for p in parts) == whole.num_targets > 0
    expected = torch.stack(objective(**whole.tensors))
    got = torch.stack([torch.stack(objective(**p.tensors)) for p in parts]).sum(0)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert expected[1].item() == whole.num_targets


def test_collating_is_repeatable_and_new_in_every_epoch(objective: Objective) -> None:
    a, b = (objective.collate(batch(), seed=3) for _ in range(2))
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    later = objective.collate(batch()._replace(epochs=np.ones(6, dtype=np.int64)), seed=3)
    assert any(not torch.equal(a.tensors[name], later.tensors[name]) for name in a.tensors)


def test_every_parameter_gets_a_gradient_even_from_an_empty_batch(objective: Objective) -> None:
    for b in (batch(), Batch(np.zeros((1, BLOCK), dtype=np.int64), np.zeros(1), np.zeros(1))):
        objective.zero_grad()
        objective(**objective.collate(b, seed=1).tensors).loss_sum.backward()
        for name, parameter in objective.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_metrics_have_their_names_and_values(objective: Objective) -> None:
    metrics = objective.metrics(Totals(loss_sum=20.0, num_targets=10.0, num_correct=4.0), tokens_per_byte=0.25)
    assert tuple(metrics) == objective.metric_names
    assert metrics["loss"] == 2.0
    assert metrics["bits_per_byte"] == pytest.approx(2.0 / np.log(2) * 0.25)
