"""From hidden states to the vocabulary, and the cross-entropy of it without ever holding all logits.

Shapes: N targets, D d_model, E width of the token embeddings, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reforge.models import Backbone

# Logits that exist at once, in values: 64 MiB in float32.
CHUNK_VALUES = 2**24


class OutputLayer(nn.Module):
    """Logits over the vocabulary: a matrix of its own, or the backbone's token embeddings where they are tied.

    Tied, a dense layer, GELU and layer norm stand before it as in BERT, and bring d_model to the embeddings' width.
    """

    def __init__(self, backbone: Backbone, tie_embeddings: bool) -> None:
        super().__init__()
        vocab_size, width = backbone.token_weight.shape
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.weight: nn.Parameter | None = None
        self.transform: nn.Module = nn.Identity()
        # Not a submodule: the embedding has its name in the backbone, and one parameter has one name.
        self.tied_weight: Callable[[], Tensor] | None = None
        if tie_embeddings:
            self.tied_weight = lambda: backbone.token_weight
            self.transform = nn.Sequential(nn.Linear(backbone.d_model, width), nn.GELU(), nn.LayerNorm(width))
        else:
            self.weight = nn.Parameter(torch.empty(vocab_size, backbone.d_model))
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def matrix(self) -> Tensor:
        """The matrix [V, D] or, tied, [V, E]."""
        if self.tied_weight is not None:
            return self.tied_weight()
        assert self.weight is not None
        return self.weight

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Logits [N, V], float32."""
        logits_NV: Tensor = F.linear(self.transform(hidden_ND), self.matrix(), self.bias)
        return logits_NV.float()

    def loss_sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy in nats summed over the targets."""
        return F.cross_entropy(self(hidden_ND), targets_N, reduction="sum")

    @torch.no_grad()
    def num_correct(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """How many targets have the highest logit, a float32 scalar."""
        rows = max(1, CHUNK_VALUES // self.matrix().shape[0])
        parts = zip(hidden_ND.split(rows), targets_N.split(rows), strict=True)
        hits = [(self(hidden).argmax(-1) == targets).float().sum() for hidden, targets in parts]
        return torch.stack(hits).sum() if hits else hidden_ND.new_zeros((), dtype=torch.float32)
