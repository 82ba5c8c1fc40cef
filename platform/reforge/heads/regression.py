"""One score a text, or a pair of them: how alike they are, how good."""

from typing import ClassVar, Literal

from reforge.heads.head import Head, HeadOptions, Level, Outputs
from reforge.heads.pooled import Pool, PooledHead


class RegressionOptions(HeadOptions):
    """One score a text, as BERT's classifier with a single output.

    pool: what stands for a text: the state of [CLS], its first token, or the mean of its real tokens' states
    """

    kind: Literal["regression"] = "regression"
    pool: Pool = "cls"
    levels: ClassVar[frozenset[Level]] = frozenset({"text"})
    single_score: ClassVar[bool] = True

    def build(self, d_model: int, outputs: Outputs) -> Head:
        """A head of scores [B, 1]."""
        assert outputs.level in self.levels, outputs
        assert outputs.size == 1, outputs
        return PooledHead(d_model, 1, self.pool, self.dropout)
