import torch

from reforge.heads import Outputs
from reforge.heads.span import SpanOptions


def test_padding_is_neither_start_nor_end() -> None:
    torch.manual_seed(0)
    head = SpanOptions(dropout=0.0).build(4, Outputs(2, "span"))
    real = torch.arange(6) < torch.tensor([[6], [2], [0]])
    scores = head(torch.randn(3, 6, 4), real)
    assert (scores[~real] == -1e9).all()
    probs = scores.softmax(1)
    torch.testing.assert_close(probs[1, :2].sum(0), torch.ones(2))
    assert not probs[1, 2:].any()
    assert probs.isfinite().all()
