"""Linear heads: a class for each text from one vector of it, or a tag for each unit on its own."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor

from reforge.heads.emissions import Emissions, LSTMOptions, emission_values
from reforge.heads.head import Head, HeadOptions, Level, Outputs, TokenHead
from reforge.heads.pooled import Pool, PooledHead
from reforge.spec import Problem


class LinearOptions(HeadOptions):
    """A linear head: of texts BERT's classifier, of units "d to 2d, GELU, out".

    pool: what stands for a text: the state of [CLS], its first token, or the mean of its real tokens' states
    lstm: a bidirectional LSTM over the units before they are tagged
    """

    kind: Literal["linear"] = "linear"
    pool: Pool = "cls"
    lstm: LSTMOptions | None = None
    levels: ClassVar[frozenset[Level]] = frozenset({"text", "token"})
    supports_class_weights: ClassVar[bool] = True

    def build(self, d_model: int, outputs: Outputs) -> Head:
        """A classifier of texts, or a tagger."""
        assert outputs.level in self.levels, outputs
        if outputs.level == "token":
            return LinearTagger(self, d_model, outputs.size)
        return PooledHead(d_model, outputs.size, self.pool, self.dropout)

    def activation_values(self, d_model: int, outputs: Outputs) -> int:
        """A tagger's layers; of a classifier next to nothing but the states."""
        return emission_values(d_model, self.lstm) if outputs.level == "token" else 2 * d_model

    def fit(self, level: Level) -> Iterator[Problem]:
        """Pooling is for texts, an LSTM for units."""
        yield from super().fit(level)
        if level == "token" and self.pool != "cls":
            yield Problem(("head", "pool"), "must be left out where every word gets a tag", self.pool)
        if level == "text" and self.lstm is not None:
            yield Problem(("head", "lstm"), "must be left out where a text gets one answer: it is for tagging")


class LinearTagger(TokenHead):
    """Tags each unit on its own: nothing keeps I-X from standing after O, and so it is scored."""

    def __init__(self, options: LinearOptions, d_model: int, num_tags: int) -> None:
        super().__init__()
        self.emissions = Emissions(d_model, num_tags, options.dropout, options.lstm)

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Scores [B, S, K] of each unit's tags."""
        scores_BSK: Tensor = self.emissions(states_BSD, real_BS)
        return scores_BSK
