"""The steps from logits to a token, against small cases worked out by hand."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from reforge.runs.sampling import SamplingOptions, draw, keep_top_k, keep_top_p, penalise_repetition

NOT = -math.inf
NOTHING_SEEN = torch.zeros(1, 4, dtype=torch.bool)


def logits_of(*probs: float) -> Tensor:
    return torch.tensor([probs]).log()


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares(options: SamplingOptions, logits: Tensor, seen: Tensor = NOTHING_SEEN, num_draws: int = 4000) -> Tensor:
    """How often each token is chosen."""
    random = generator()
    chosen = options.choose(logits.expand(num_draws, -1), seen.expand(num_draws, -1), [random] * num_draws)
    return torch.bincount(chosen, minlength=logits.shape[1]) / num_draws


def test_repetition_makes_seen_tokens_less_likely_whatever_their_sign() -> None:
    logits = torch.tensor([[3.0, -3.0, 0.0, 3.0, NOT]])
    seen = torch.tensor([[True, True, True, False, True]])
    assert penalise_repetition(logits, seen, 1.5).tolist() == [[2.0, -4.5, 0.0, 3.0, NOT]]
    assert penalise_repetition(logits, seen, 1.0).tolist() == logits.tolist()


@pytest.mark.parametrize(
    ("k", "expected"), [(0, [0, 1, 2, 3]), (1, [2]), (2, [0, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k_keeps_the_k_likeliest(k: int, expected: list[int]) -> None:
    logits = logits_of(0.3, 0.1, 0.4, 0.2)
    cut = keep_top_k(logits, k)
    assert kept(cut) == [expected]
    assert torch.equal(cut[0, expected], logits[0, expected])


def test_top_k_keeps_no_more_than_k_of_equal_ones() -> None:
    assert len(kept(keep_top_k(torch.zeros(1, 6), 2))[0]) == 2


@pytest.mark.parametrize(
    ("p", "expected"),
    [(1.0, [0, 1, 2, 3]), (0.01, [2]), (0.39, [2]), (0.41, [0, 2]), (0.75, [0, 2, 3]), (0.95, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_that_reach_p(p: float, expected: list[int]) -> None:
    assert kept(keep_top_p(logits_of(0.3, 0.1, 0.4, 0.2), p)) == [expected]


def test_top_p_is_a_matter_of_each_row() -> None:
    assert kept(keep_top_p(torch.cat((logits_of(0.9, 0.05, 0.05), logits_of(0.4, 0.3, 0.3))), 0.5)) == [[0], [0, 1]]


def test_a_draw_follows_the_probabilities() -> None:
    got = shares(SamplingOptions(), logits_of(0.5, 0.3, 0.2, 0.0))
    torch.testing.assert_close(got, torch.tensor([0.5, 0.3, 0.2, 0.0]), rtol=0, atol=0.03)
    assert got[3] == 0


def test_temperature_divides_the_logits() -> None:
    """Probabilities to the power 1 / temperature: 0.8 and 0.2 at a half are 0.64 and 0.04, which is 16 to 1."""
    got = shares(SamplingOptions(temperature=0.5), logits_of(0.8, 0.2, 0.0, 0.0))
    torch.testing.assert_close(got, torch.tensor([16 / 17, 1 / 17, 0, 0]), rtol=0, atol=0.02)


def test_the_steps_together() -> None:
    """Seen, token 0 falls from logit 4 to 1; 3, 2 and 1 are left by top-k; the likeliest two have 0.91 of them."""
    logits = torch.tensor([[4.0, 3.0, 2.0, 0.0]])
    seen = torch.tensor([[True, False, False, False]])
    got = shares(SamplingOptions(repetition_penalty=4.0, top_k=3, top_p=0.9), logits, seen)
    share = math.e / (math.e + 1)
    torch.testing.assert_close(got, torch.tensor([0, share, 1 - share, 0]), rtol=0, atol=0.03)


def test_greedy_takes_the_likeliest_that_is_not_penalised() -> None:
    logits, seen = torch.tensor([[4.0, 3.0, 2.0, 0.0]]), torch.tensor([[True, False, False, False]])
    assert SamplingOptions(greedy=True).choose(logits, seen, []).tolist() == [0]
    assert SamplingOptions(greedy=True, repetition_penalty=2.0).choose(logits, seen, []).tolist() == [1]


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    probs = torch.rand(3, 50, generator=generator()).softmax(-1)
    alone = [draw(probs[row : row + 1], [generator(row)]).item() for row in range(3)]
    assert draw(probs, [generator(row) for row in range(3)]).tolist() == alone
    state = torch.random.get_rng_state()
    draw(probs, [generator(row) for row in range(3)])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"repetition_penalty": 0.0},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SamplingOptions(**wrong)


def test_what_has_no_effect_is_refused() -> None:
    problems = list(SamplingOptions(greedy=True, top_k=5, temperature=0.5, repetition_penalty=1.2).problems())
    assert [problem.path for problem in problems] == [("temperature",), ("top_k",)]
    assert not list(SamplingOptions(top_k=5, temperature=0.5).problems())
