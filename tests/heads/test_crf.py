"""The CRF against all paths one by one, and against pytorch-crf."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from reforge.heads import Outputs
from reforge.heads.crf import CRFHead, CRFOptions

IOB2 = ("O", "B-X", "I-X", "B-Y", "I-Y")
PLAIN = ("noun", "verb", "adverb", "particle", "O")
Legal = set[tuple[str, str]]


def build(names: tuple[str, ...], seed: int = 0, spread: float = 1.0) -> CRFHead:
    torch.manual_seed(seed)
    head = CRFOptions(dropout=0.0).build(4, Outputs(len(names), "token", names)).double()
    with torch.no_grad():
        for scores in (head.start_K, head.transitions_KK, head.end_K):
            scores.normal_(std=spread)
    return head


def batch(num_tags: int, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Emissions, tags and what is real: 1 to 5 rows of 1 to 4 units, each row of 1 unit at least."""
    random = torch.Generator().manual_seed(seed)
    num_rows, width = (int(torch.randint(1, high, (), generator=random)) for high in (6, 5))
    lengths = torch.randint(1, width + 1, (num_rows,), generator=random)
    emissions = spread * torch.randn(num_rows, width, num_tags, generator=random, dtype=torch.float64)
    tags = torch.randint(num_tags, (num_rows, width), generator=random)
    return emissions.requires_grad_(), tags, torch.arange(width) < lengths[:, None]


def legal(names: tuple[str, ...], path: list[int]) -> bool:
    """Whether IOB2, where the names are its tags, has such a sequence: read from left to right."""
    if "noun" in names:
        return True
    open_type = None
    for name in (names[k] for k in path):
        if name.startswith("I-") and name[2:] != open_type:
            return False
        open_type = None if name == "O" else name[2:]
    return True


def mended(names: tuple[str, ...], tags: list[int]) -> list[int]:
    """Gold tags as conlleval reads them: I-X begins an entity where none of X is open."""
    path: list[int] = []
    for tag in tags:
        path.append(tag if legal(names, [*path, tag]) else names.index("B-" + names[tag][2:]))
    return path


def path_scores(head: CRFHead, emissions: Tensor, paths: Tensor) -> Tensor:
    """The scores [P] of paths [P, S] through emissions [S, K]."""
    units = emissions[torch.arange(len(emissions)), paths].sum(1)
    moves = head.transitions_KK[paths[:, :-1], paths[:, 1:]].sum(1)
    return units + moves + head.start_K[paths[:, 0]] + head.end_K[paths[:, -1]]


def brute_force(
    head: CRFHead, names: tuple[str, ...], emissions: Tensor, tags: Tensor, real: Tensor
) -> tuple[Tensor, list[list[int]]]:
    """Negative log-likelihood summed over the rows, and each row's best path."""
    losses, best = [], []
    for row, length in enumerate(real.sum(1).tolist()):
        paths = [list(path) for path in product(range(len(names)), repeat=length) if legal(names, list(path))]
        scores = path_scores(head, emissions[row, :length], torch.tensor(paths))
        losses.append(scores.logsumexp(0) - scores[paths.index(mended(names, tags[row, :length].tolist()))])
        best.append(paths[int(scores.argmax())])
    return torch.stack(losses).sum(), best


def gradients(loss: Tensor, head: CRFHead, emissions: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (head.start_K, head.transitions_KK, head.end_K, emissions), materialize_grads=True)


def trimmed(tags: Tensor, real: Tensor) -> list[list[int]]:
    return [row[kept].tolist() for row, kept in zip(tags, real, strict=True)]


CASES = [
    *product([IOB2, IOB2[:3], PLAIN, PLAIN[:2], ("O",)], range(8), [1.0]),
    *product([IOB2, PLAIN], range(8, 11), [30.0]),
]


@pytest.mark.parametrize(("names", "seed", "spread"), CASES)
def test_equals_all_paths_one_by_one(names: tuple[str, ...], seed: int, spread: float) -> None:
    head = build(names, seed, spread)
    emissions, tags, real = batch(len(names), seed, spread)
    expected, best = brute_force(head, names, emissions, tags, real)
    got = head.loss_sum(emissions, tags.masked_fill(~real, -100), real)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for one, other in zip(gradients(got, head, emissions), gradients(expected, head, emissions), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    decoded = head.decode(emissions, real)
    assert trimmed(decoded, real) == best
    assert not decoded[~real].any()


def test_the_probabilities_of_all_paths_add_up_to_one() -> None:
    head = build(IOB2)
    emissions = batch(len(IOB2), seed=3)[0][:1].expand(1, -1, -1)
    length = emissions.shape[1]
    paths = [path for path in product(range(len(IOB2)), repeat=length) if legal(IOB2, list(path))]
    real = torch.ones(1, length, dtype=torch.bool)
    total = sum(math.exp(-head.loss_sum(emissions, torch.tensor([path]), real).item()) for path in paths)
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_equals_pytorch_crf(seed: int) -> None:
    torchcrf = pytest.importorskip("torchcrf", reason="pytorch-crf is not installed")
    head = build(tuple("abcdefg"), seed)
    peer = torchcrf.CRF(7, batch_first=True).double()
    with torch.no_grad():
        peer.start_transitions.copy_(head.start_K)
        peer.transitions.copy_(head.transitions_KK)
        peer.end_transitions.copy_(head.end_K)
    random = torch.Generator().manual_seed(seed)
    emissions = torch.randn(9, 17, 7, generator=random, dtype=torch.float64, requires_grad=True)
    tags = torch.randint(7, (9, 17), generator=random)
    real = torch.arange(17) < torch.randint(1, 18, (9, 1), generator=random)
    loss, peer_loss = head.loss_sum(emissions, tags, real), -peer(emissions, tags, real)
    torch.testing.assert_close(loss, peer_loss, rtol=1e-9, atol=1e-9)
    (got,), (expected,) = torch.autograd.grad(loss, emissions), torch.autograd.grad(peer_loss, emissions)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    assert trimmed(head.decode(emissions, real), real) == peer.decode(emissions, real)


@pytest.mark.parametrize("spread", [1.0, 1e6])
def test_a_forbidden_transition_never_comes_out(spread: float) -> None:
    head = build(IOB2).float()
    scores = spread * torch.randn(200, 12, len(IOB2))
    scores[:100, :, [2, 4]] += 10 * spread  # the inner tags look best
    real = torch.arange(12) < torch.randint(0, 13, (200, 1))
    for path in trimmed(head.decode(scores, real), real):
        assert legal(IOB2, path)


def test_a_forbidden_transition_learns_nothing_and_has_no_mass() -> None:
    head = build(IOB2)
    emissions, tags, real = batch(len(IOB2), seed=2)
    before = head.loss_sum(emissions, tags, real)
    before.backward()
    assert not head.start_K.grad[head.not_first_K].any()
    assert not head.transitions_KK.grad[head.not_after_KK].any()
    with torch.no_grad():
        head.start_K[head.not_first_K] = 500.0
        head.transitions_KK[head.not_after_KK] = 500.0
    assert torch.equal(head.loss_sum(emissions, tags, real), before)


def test_a_window_that_starts_within_an_entity_has_a_bounded_loss() -> None:
    head = build(IOB2, spread=0.1).float()
    emissions, real = torch.zeros(1, 4, len(IOB2)), torch.ones(1, 4, dtype=torch.bool)
    within, begun = torch.tensor([[2, 2, 0, 4]]), torch.tensor([[1, 2, 0, 3]])
    assert torch.equal(head.loss_sum(emissions, within, real), head.loss_sum(emissions, begun, real))


@pytest.mark.parametrize("spread", [1e2, 1e4])
def test_extreme_emissions_give_finite_losses_and_gradients(spread: float) -> None:
    head = build(IOB2).float()
    emissions = (spread * torch.randn(8, 30, len(IOB2))).requires_grad_()
    tags, real = torch.randint(len(IOB2), (8, 30)), torch.ones(8, 30, dtype=torch.bool)
    loss = head.loss_sum(emissions, tags, real)
    loss.backward()
    assert loss.isfinite()
    assert all(p.isfinite().all() for p in (emissions.grad, head.start_K.grad, head.transitions_KK.grad))


def test_autocast_changes_nothing() -> None:
    head = build(IOB2).float()
    emissions, tags, real = batch(len(IOB2), seed=4)
    emissions = emissions.float()
    expected = head.loss_sum(emissions, tags, real), head.decode(emissions, real)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, decoded = head.loss_sum(emissions, tags, real), head.decode(emissions, real)
    assert torch.equal(loss, expected[0])
    assert loss.dtype == torch.float32
    assert torch.equal(decoded, expected[1])


def test_weights_and_smoothing_are_refused() -> None:
    head = build(IOB2)
    emissions, tags, real = batch(len(IOB2), seed=0)
    with pytest.raises(AssertionError, match="supports_class_weights"):
        head.loss_sum(emissions, tags, real, label_smoothing=0.1)
    with pytest.raises(AssertionError, match="supports_class_weights"):
        head.loss_sum(emissions, tags, real, torch.ones(len(IOB2)))
    assert not CRFOptions.supports_class_weights


def test_neighbours_are_learnt() -> None:
    """Emissions that say nothing of every second tag: only the chain knows that 1 comes after 0 and 2 after 1."""
    torch.manual_seed(0)
    head = CRFOptions(dropout=0.0).build(3, Outputs(3, "token", ("a", "b", "c")))
    tags = (torch.arange(12) + torch.arange(3)[:, None]) % 3
    states = torch.nn.functional.one_hot(tags, 3).float() * (torch.arange(12) % 4 == 0)[:, None]
    real = torch.ones(3, 12, dtype=torch.bool)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        head.loss_sum(head(states, real), tags, real).backward()
        optimizer.step()
    assert torch.equal(head.decode(head(states, real), real), tags)
