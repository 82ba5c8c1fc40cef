import torch

from reforge.heads.layers import INIT_STD, Scorer, dense


def test_layers_start_as_berts() -> None:
    torch.manual_seed(0)
    for layer in (dense(300, 400), Scorer(300, 400)):
        assert abs(layer.weight.std().item() / INIT_STD - 1) < 0.02
        assert not layer.bias.any()


def test_a_scorer_under_autocast_computes_in_its_own_precision() -> None:
    torch.manual_seed(0)
    layer, states = Scorer(32, 3), torch.randn(5, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = layer(states)
    assert torch.equal(scores, layer(states))
