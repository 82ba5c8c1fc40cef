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

    Positions count a row's real tokens: padding changes nothing on whichever side it is. Beside sinusoids the others
    are multiplied by sqrt(E), as in the paper: without it, models learn to tell positions apart far later.
    """

    def __init__(self, frame: Frame, width: int, position: Position, std: float) -> None:
        super().__init__()
        self.sinusoidal = position == "sinusoidal"
        self.tokens = new_embedding(frame.vocab_size, width, std)
        self.positions = new_embedding(frame.block_tokens, width, std) if position == "absolute" else None
        self.segments = new_embedding(frame.num_segments, width, std) if frame.num_segments else None

    def forward(self, ids_BT: Tensor, mask_BS: Tensor | None, segments_BT: Tensor | None, start: int) -> Tensor:
        """Embeddings [B, T, E] of ids that come after `start` others; `mask_BS` is that of all."""
        assert (segments_BT is None) == (self.segments is None), "segment ids and segment embeddings go together"
        x_BTE: Tensor = self.tokens(ids_BT)
        if self.segments is not None:
            x_BTE = x_BTE + self.segments(segments_BT)
        if self.positions is not None:
            x_BTE = x_BTE + self.positions(row_positions(ids_BT, mask_BS, start))
        if self.sinusoidal:
            width = x_BTE.shape[-1]
            table = sinusoids(row_positions(ids_BT, mask_BS, start), width, x_BTE.dtype)
            x_BTE = x_BTE * math.sqrt(width) + table.to(x_BTE)
        return x_BTE


def row_positions(ids_BT: Tensor, mask_BS: Tensor | None, start: int) -> Tensor:
    """The number of real tokens before each token, [T] or, where rows differ, [B, T]."""
    num_tokens = ids_BT.shape[1]
    if mask_BS is None:
        return torch.arange(start, start + num_tokens, device=ids_BT.device)
    return (mask_BS.cumsum(dim=1) - 1).clamp(min=0)[:, -num_tokens:]
