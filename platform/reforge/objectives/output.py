"""From hidden states to the vocabulary, and the cross-entropy of it without ever holding all logits.

    hidden [N, D] --rows, a chunk at a time--> logits --log-softmax--> loss
                                                          '--> gradients of the chunk's hidden states, matrix and bias

torch's own `linear_cross_entropy` computes in float32 under autocast, and fed bfloat16 it returns a bfloat16 sum.

Shapes: N targets, D d_model, E width of the token embeddings, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reforge.models import Backbone

# Logits that exist at once, in values, at most: 32 MiB in float32.
CHUNK_VALUES = 2**23
# On a CPU a chunk has half as many rows as hidden states are wide, but so many at least: it stays in the cache, and
# adding up the gradient of the matrix, once a chunk, costs no more than two passes over the logits.
MIN_CPU_ROWS = 384


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
        """Logits [N, V], float32 (float64 of a float64 model); they may have any dimensions before the last."""
        return wide(F.linear(self.transform(hidden_ND), self.matrix(), self.bias))

    def loss_sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy in nats summed over the targets; at most CHUNK_VALUES logits exist at once."""
        return cross_entropy_sum(self.transform(hidden_ND), self.matrix(), self.bias, targets_N)

    @torch.no_grad()
    def num_correct(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """How many targets have the highest logit, a float32 scalar; at most CHUNK_VALUES logits exist at once."""
        hits = hidden_ND.new_zeros((), dtype=torch.float32)
        rows = chunk_rows(self.matrix())
        for hidden, targets in zip(torch.split(hidden_ND, rows), torch.split(targets_N, rows), strict=True):
            hits += (self(hidden).argmax(-1) == targets).sum()
        return hits


def cross_entropy_sum(hidden_ND: Tensor, matrix_VD: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
    """Sum over n of -log softmax(hidden_n matrix^T + bias)[target_n], in nats; float32, or float64 of float64 values.

    Where all logits fit into one chunk it is torch's own cross-entropy.
    """
    rows = chunk_rows(matrix_VD)
    if len(targets_N) > rows and torch.is_grad_enabled():
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden_ND, matrix_VD, bias_V, targets_N)  # type: ignore[no-untyped-call]
        return loss
    chunks = zip(torch.split(hidden_ND, rows), torch.split(targets_N, rows), strict=True)
    losses = [
        F.cross_entropy(wide(F.linear(hidden, matrix_VD, bias_V)), targets, reduction="sum")
        for hidden, targets in chunks
    ]
    return torch.stack(losses).sum()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """`cross_entropy_sum` for many targets: the forward pass leaves the gradients, the backward pass scales them.

    The gradients are those of the sum itself, so that no logits need to be kept or computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, matrix_VD: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
        dtype = product_dtype(matrix_VD)
        matrix, bias = matrix_VD.to(dtype), bias_V.to(dtype)
        d_hidden, d_matrix, d_bias = torch.empty_like(hidden_ND), torch.zeros_like(matrix_VD), torch.zeros_like(bias_V)
        loss = torch.zeros((), dtype=torch.promote_types(dtype, torch.float32), device=hidden_ND.device)
        rows = chunk_rows(matrix_VD)
        parts = zip(*(torch.split(whole, rows) for whole in (hidden_ND, d_hidden, targets_N)), strict=True)
        for hidden, d_hidden_part, targets in parts:
            hidden = hidden.to(dtype)
            logits, places = wide(F.linear(hidden, matrix, bias)), targets[:, None]
            probs = logits.softmax(-1)
            # The highest logit less the log of its probability, which is 1 / V at least, is the log of the sum.
            log_sum = logits.amax(-1, keepdim=True) - probs.amax(-1, keepdim=True).log()
            loss += (log_sum - logits.gather(1, places)).sum()
            # The gradient of a target's loss by its logits: the probabilities, less one at the target.
            d_logits = probs.scatter_add_(1, places, probs.new_full(places.shape, -1))
            d_bias += d_logits.sum(0)
            d_logits = d_logits.to(dtype)
            d_hidden_part.copy_(d_logits @ matrix)
            _add_product(d_matrix, d_logits.T, hidden)
        ctx.gradients = d_hidden, d_matrix, d_bias
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        # Scaled in place and given away: a second backward pass would find nothing.
        d_hidden, d_matrix, d_bias = ctx.gradients
        ctx.gradients = None
        return d_hidden.mul_(d_loss), d_matrix.mul_(d_loss), d_bias.mul_(d_loss), None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total` += `left` @ `right`, added up in the precision of `total`."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def chunk_rows(matrix_VD: Tensor) -> int:
    """How many rows of logits exist at once, at most."""
    vocab_size, width = matrix_VD.shape
    return rows_at_once(vocab_size, width, matrix_VD.device.type)


def rows_at_once(vocab_size: int, width: int, device_kind: str) -> int:
    """How many rows of logits exist at once on such a device, at most."""
    rows = max(1, CHUNK_VALUES // vocab_size)
    return min(rows, max(width // 2, MIN_CPU_ROWS)) if device_kind == "cpu" else rows


def product_dtype(weight: Tensor) -> torch.dtype:
    """In what precision a product with `weight` is taken here: autocast's where that is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def wide(logits: Tensor) -> Tensor:
    """`logits` in float32 at least: a softmax over a vocabulary needs it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
