"""What goes into a Transformer's first layer: tokens, positions and segments, embedded and summed.

Shapes: B batch, T tokens, S tokens seen (earlier ones and the T), E width of the embeddings.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from reforge.models.backbone import Frame, new_embedding
from reforge.models.rotary import sinusoids

Position = Literal["rotary", "absolute", "sinusoidal"]


class Embeddings(nn.Module):
    """Sum of the embeddings of tokens, of their positions unless these are rotary, and of segments where there are any.

    Positions count a row's real tokens: padding changes nothing on whichever side it is. Sinusoids are drawn in to the
    standard deviation of the other embeddings, which they would drown.
    """

    def __init__(self, frame: Frame, width: int, position: Position, std: float) -> None:
        super().__init__()
        self.position_std = std if position == "sinusoidal" else 0.0
        self.tokens = new_embedding(frame.vocab_size, width, std)
        self.positions = new_embedding(frame.block_tokens, width, std) if position == "absolute" else None
        self.segments = new_embedding(frame.num_segments, width, std) if frame.num_segments else None

    def forward(self, ids_BT: Tensor, mask_BS: Tensor | None, segments_BT: Tensor | None, start: int) -> Tensor:
        """Embeddings [B, T, E] of ids that come after `start` others; `mask_BS` is that of all."""
        x_BTE: Tensor = self.tokens(ids_BT)
        if self.positions is not None or self.position_std:
            x_BTE = x_BTE + self._embed_positions(row_positions(ids_BT, mask_BS, start))
        assert (segments_BT is None) == (self.segments is None), "segments where the frame has them, and only there"
        if self.segments is not None:
            x_BTE = x_BTE + self.segments(segments_BT)
        return x_BTE

    def _embed_positions(self, positions: Tensor) -> Tensor:
        weight = self.tokens.weight
        if self.positions is not None:
            embedded: Tensor = self.positions(positions)
            return embedded
        # A sine's standard deviation is 1 / sqrt(2).
        return (sinusoids(positions, weight.shape[1], weight.dtype) * (self.position_std * math.sqrt(2))).to(weight)


def row_positions(ids_BT: Tensor, mask_BS: Tensor | None, start: int) -> Tensor:
    """The number of real tokens before each token, [T] or, where rows differ, [B, T]."""
    num_tokens = ids_BT.shape[1]
    if mask_BS is None:
        return torch.arange(start, start + num_tokens, device=ids_BT.device)
    return (mask_BS.cumsum(dim=1) - 1).clamp(min=0)[:, -num_tokens:]
