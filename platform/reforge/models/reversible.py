"""Mixed precision for reformer-pytorch's reversible layers.

Its backward pass runs every block a second time, outside the autocast region of the forward pass. The second run would
then be in float32 while the first was in bfloat16: slower, and the reconstructed inputs drift from the true ones.
"""

from typing import Any

import torch
from reformer_pytorch.reversible import Deterministic, ReversibleSequence
from torch import Tensor, nn


class AutocastDeterministic(Deterministic):  # type: ignore[misc]  # the library ships no types
    """reformer-pytorch's `Deterministic` that also remembers the autocast state of the forward pass.

    Parameter names stay the library's own, so its state_dict loads both ways.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.autocast_dtype: torch.dtype | None = None

    def forward(self, x: Tensor, *, record_rng: bool = False, set_rng: bool = False, **kwargs: Any) -> Tensor:
        """The wrapped module's output; with `set_rng`, under the random and autocast state that was recorded."""
        device_type = x.device.type
        if record_rng:
            enabled = torch.is_autocast_enabled(device_type)
            self.autocast_dtype = torch.get_autocast_dtype(device_type) if enabled else None
        if not set_rng:
            output: Tensor = super().forward(x, record_rng=record_rng, **kwargs)
            return output
        dtype = self.autocast_dtype
        # The cast cache must stay off: it would keep weights' casts of one block alive across the whole backward pass.
        with torch.autocast(device_type, dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            recomputed: Tensor = super().forward(x, set_rng=True, **kwargs)
        return recomputed


def remember_autocast(layers: ReversibleSequence) -> None:
    """Make every reversible block of `layers` recompute under the autocast state of its forward pass, in place."""
    for block in layers.blocks:
        block.f = AutocastDeterministic(block.f.net)
        block.g = AutocastDeterministic(block.g.net)
