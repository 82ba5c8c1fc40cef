"""Where an answer starts and where it ends: two scores a token (Devlin et al. 2018, section 4.2)."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from reforge.heads.head import Head, HeadOptions, Level, Outputs
from reforge.heads.layers import Scorer

# The score of what is not real: a softmax gives it no probability, and unlike -inf an empty row no NaN.
NOT_REAL = -1.0e9


class SpanOptions(HeadOptions):
    """A linear layer from each token's state to its scores as the start and as the end of the answer."""

    kind: Literal["span"] = "span"
    levels: ClassVar[frozenset[Level]] = frozenset({"span"})

    def build(self, d_model: int, outputs: Outputs) -> Head:
        """A head of starts and ends."""
        assert outputs.level in self.levels, outputs
        return SpanHead(d_model, self.dropout)


class SpanHead(Head):
    """Scores of starts and ends."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = Scorer(d_model, 2)

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Scores [B, S, 2] of each token as start and as end; -1e9 where nothing is real."""
        scores_BS2: Tensor = self.out(self.dropout(states_BSD))
        return scores_BS2.masked_fill(~real_BS[..., None], NOT_REAL)
