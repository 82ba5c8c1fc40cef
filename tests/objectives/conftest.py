"""What the objectives' tests share."""

from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Notes how many values the largest tensor has that any operator gives."""

    def __init__(self) -> None:
        super().__init__()
        self.num_values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.num_values = max(self.num_values, tensor.numel())
        return out


@pytest.fixture
def largest_tensor() -> type[LargestTensor]:
    """A context that notes the size of the largest tensor; each use needs one of its own."""
    return LargestTensor
