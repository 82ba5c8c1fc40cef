"""Cross-entropy through the vocabulary in chunks equals the plain one, and never holds all logits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reforge.objectives import output
from reforge.objectives.output import OutputLayer, cross_entropy_sum

NUM_TARGETS, VOCAB, WIDTH = 130, 301, 12
CHUNK = 16 * VOCAB  # 130 targets are eight chunks of 16 and one of 2


class Embeddings(nn.Module):
    """As much of a backbone as an output layer needs."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.d_model = WIDTH
        self.embedding = nn.Embedding(VOCAB, width)

    @property
    def token_weight(self) -> Tensor:
        return self.embedding.weight


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "CHUNK_VALUES", CHUNK)


def values(dtype: torch.dtype = torch.float32, num_targets: int = NUM_TARGETS) -> list[Tensor]:
    """Hidden states, matrix and bias that take gradients, and targets."""
    torch.manual_seed(0)
    leaves = [torch.randn(num_targets, WIDTH), torch.randn(VOCAB, WIDTH), torch.randn(VOCAB)]
    return [*(leaf.to(dtype).requires_grad_() for leaf in leaves), torch.randint(VOCAB, (num_targets,))]


def plain(hidden: Tensor, matrix: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(output.wide(F.linear(hidden, matrix, bias)), targets, reduction="sum")


def gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss * 0.37, leaves))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("num_targets", [0, 1, 16, 17, NUM_TARGETS])
def test_equals_plain_cross_entropy(dtype: torch.dtype, tolerance: float, num_targets: int) -> None:
    args = values(dtype, num_targets)
    expected, got = plain(*args), cross_entropy_sum(*args)
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(gradients(got, *args[:3]), gradients(expected, *args[:3]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_under_autocast_it_is_as_near_to_float32_as_plain_cross_entropy() -> None:
    args = values()
    exact = [plain(*args).detach(), *gradients(plain(*args), *args[:3])]

    def distances(function: Any) -> list[float]:
        with torch.autocast("cpu", torch.bfloat16):
            loss = function(*args)
        assert loss.dtype == torch.float32
        got = [loss.detach(), *gradients(loss, *args[:3])]
        return [float((a - b).norm() / b.norm()) for a, b in zip(got, exact, strict=True)]

    ours, theirs = distances(cross_entropy_sum), distances(plain)
    assert 0 < max(theirs) < 0.02
    assert all(a < 1.5 * b + 1e-4 for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def test_extreme_logits_give_a_finite_loss_and_gradient() -> None:
    hidden, matrix, bias, targets = values()
    with torch.no_grad():
        bias[::2] += 1000.0
    loss = cross_entropy_sum(hidden, matrix, bias, targets)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(loss, hidden, matrix, bias))


@pytest.mark.parametrize("mode", ["training", "evaluation", "counting"])
def test_no_tensor_is_larger_than_a_chunk(mode: str, largest_tensor: Any) -> None:
    hidden, matrix, bias, targets = values()
    layer = OutputLayer(Embeddings(), tie_embeddings=False)
    with largest_tensor() as reference:
        plain(hidden, matrix, bias, targets)
    with largest_tensor() as largest:
        if mode == "training":
            layer.loss_sum(hidden, targets).backward()
        else:
            with torch.no_grad():
                (layer.loss_sum if mode == "evaluation" else layer.num_correct)(hidden, targets)
    assert reference.num_values == NUM_TARGETS * VOCAB
    assert largest.num_values == CHUNK


@pytest.mark.parametrize("tied", [False, True])
def test_tied_and_untied_layers_learn_alike_in_chunks_and_at_once(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Embeddings(width=7 if tied else WIDTH).double()
    torch.manual_seed(0)
    layer = OutputLayer(backbone, tied).double()
    hidden, _, _, targets = values(torch.float64)
    parameters = [hidden, *layer.parameters(), *(backbone.parameters() if tied else ())]
    chunked = gradients(layer.loss_sum(hidden, targets), *parameters)
    monkeypatch.setattr(output, "CHUNK_VALUES", NUM_TARGETS * VOCAB)
    at_once = gradients(layer.loss_sum(hidden, targets), *parameters)
    logits = layer(hidden)
    assert logits.shape == (NUM_TARGETS, VOCAB)
    torch.testing.assert_close(F.cross_entropy(logits, targets, reduction="sum"), layer.loss_sum(hidden, targets))
    for ours, theirs in zip(chunked, at_once, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_gradients_of_several_micro_batches_add_up() -> None:
    *whole, targets = values(torch.float64)
    cross_entropy_sum(*whole, targets).backward()
    hidden, matrix, bias = (leaf.detach().clone().requires_grad_() for leaf in whole)
    for part in (slice(0, 40), slice(40, 45), slice(45, NUM_TARGETS)):
        cross_entropy_sum(hidden[part], matrix, bias, targets[part]).backward()
    for ours, theirs in zip((hidden, matrix, bias), whole, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own() -> None:
    hidden, matrix, bias, targets = values(torch.float64)
    (expected,) = gradients(plain(hidden, matrix, bias, targets), hidden)
    (got,) = gradients(cross_entropy_sum(hidden, matrix.detach(), bias.detach(), targets), hidden)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_num_correct_counts_every_chunk() -> None:
    layer = OutputLayer(Embeddings(), tie_embeddings=False)
    hidden, *_ = values()
    best = layer(hidden).argmax(-1)
    best[3::5] = (best[3::5] + 1) % VOCAB
    assert layer.num_correct(hidden, best).item() == NUM_TARGETS - len(best[3::5])
    assert layer.num_correct(hidden[:0], best[:0]).item() == 0
