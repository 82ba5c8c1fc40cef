"""One vector a text, and the scores of it: what the linear and the regression head have in common.

states [B, S, D] --[CLS] or mean--> D --dropout, dense, tanh--> D --dropout, dense--> scores [B, K]
"""

from typing import Literal

import torch
from torch import Tensor, nn

from reforge.heads.head import Head
from reforge.heads.layers import Scorer, dense, real_states, wide

Pool = Literal["cls", "mean"]


class PooledHead(Head):
    """BERT's classifier with its pooler (Devlin et al. 2018, https://arxiv.org/abs/1810.04805), on [CLS] or a mean."""

    def __init__(self, d_model: int, num_scores: int, pool: Pool, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.first_only = pool == "cls"
        self.dropout = nn.Dropout(dropout)
        self.dense = dense(d_model, d_model)
        self.out = Scorer(d_model, num_scores)

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Scores [B, K] of whole texts."""
        text_BD = first_state(states_BSD, real_BS) if self.pool == "cls" else mean_state(states_BSD, real_BS)
        scores_BK: Tensor = self.out(self.dropout(torch.tanh(self.dense(self.dropout(text_BD)))))
        return scores_BK


def first_state(states_BSD: Tensor, real_BS: Tensor) -> Tensor:
    """The first token's state [B, D]; 0 of an empty row."""
    return real_states(states_BSD[:, :1], real_BS[:, :1]).squeeze(1)


def mean_state(states_BSD: Tensor, real_BS: Tensor) -> Tensor:
    """The mean [B, D] of the real tokens' states, float32 at least; 0 of an empty row."""
    sum_BD = wide(real_states(states_BSD, real_BS)).sum(1)
    return sum_BD / real_BS.sum(1, keepdim=True).clamp(min=1)
