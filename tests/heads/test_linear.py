import pytest
import torch
import torch.nn.functional as F

from reforge.heads import LSTMOptions, Outputs, TokenHead
from reforge.heads.linear import LinearOptions

REAL = torch.tensor([[True, True, True], [True, False, False]])


def tagger() -> TokenHead:
    torch.manual_seed(0)
    head = LinearOptions().build(4, Outputs(3, "token", ("O", "B-X", "I-X")))
    assert isinstance(head, TokenHead)
    return head


def test_the_loss_is_the_cross_entropy_of_the_real_units() -> None:
    scores, tags = torch.randn(2, 3, 3), torch.tensor([[0, 2, 1], [1, -100, 99]])
    rows, places = REAL.nonzero(as_tuple=True)
    expected = -scores.log_softmax(-1)[rows, places, tags[REAL]]
    torch.testing.assert_close(tagger().loss_sum(scores, tags, REAL), expected.sum())
    weights = torch.tensor([0.5, 2.0, 3.0])
    torch.testing.assert_close(tagger().loss_sum(scores, tags, REAL, weights), (expected * weights[tags[REAL]]).sum())


def test_smoothing_spreads_some_of_the_target_over_all_tags() -> None:
    scores, tags = torch.randn(2, 3, 3), torch.tensor([[0, 2, 1], [1, 0, 0]])
    targets = 0.9 * F.one_hot(tags[REAL], 3) + 0.1 / 3
    expected = -(targets * scores[REAL].log_softmax(-1)).sum()
    torch.testing.assert_close(tagger().loss_sum(scores, tags, REAL, label_smoothing=0.1), expected)


def test_each_unit_gets_its_own_best_tag() -> None:
    scores = F.one_hot(torch.tensor([[0, 2, 1], [2, 1, 1]]), 3).float()
    assert tagger().decode(scores, REAL).tolist() == [[0, 2, 1], [2, 0, 0]]


def test_a_tagger_widens_to_twice_the_states() -> None:
    shapes = {name: tuple(p.shape) for name, p in tagger().named_parameters()}
    assert list(shapes.values()) == [(8, 4), (8,), (3, 8), (3,)]


@pytest.mark.parametrize(
    ("level", "options", "path"),
    [
        ("token", {"pool": "mean"}, ("head", "pool")),
        ("text", {"lstm": LSTMOptions()}, ("head", "lstm")),
        ("span", {}, ("head", "kind")),
    ],
)
def test_what_does_nothing_at_a_level_is_a_problem(level: str, options: dict[str, object], path: tuple[str]) -> None:
    (problem,) = LinearOptions(**options).fit(level)
    assert problem.path == path
