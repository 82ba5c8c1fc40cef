import torch

from reforge.heads.pooled import PooledHead, first_state, mean_state


def test_the_mean_counts_no_padding() -> None:
    states, real = torch.randn(3, 5, 4), torch.arange(5) < torch.tensor([[5], [2], [0]])
    got = mean_state(states, real)
    torch.testing.assert_close(got[0], states[0].mean(0))
    torch.testing.assert_close(got[1], states[1, :2].mean(0))
    assert not got[2].any()


def test_a_mean_of_many_bfloat16_states_is_not_rounded_on_the_way() -> None:
    states, real = torch.rand(1, 4096, 2).bfloat16(), torch.ones(1, 4096, dtype=torch.bool)
    torch.testing.assert_close(mean_state(states, real), states.double().mean(1).float(), rtol=1e-5, atol=1e-6)


def test_the_first_token_stands_for_the_text() -> None:
    states, real = torch.randn(2, 5, 4), torch.arange(5) < torch.tensor([[2], [0]])
    got = first_state(states, real)
    assert torch.equal(got[0], states[0, 0])
    assert not got[1].any()


def test_scores_are_those_of_berts_classifier() -> None:
    torch.manual_seed(0)
    head = PooledHead(4, 3, "cls", dropout=0.5).eval()
    states = torch.randn(2, 5, 4)
    pooled = torch.tanh(states[:, 0] @ head.dense.weight.T + head.dense.bias)
    expected = pooled @ head.out.weight.T + head.out.bias
    torch.testing.assert_close(head(states, torch.ones(2, 5, dtype=torch.bool)), expected)
