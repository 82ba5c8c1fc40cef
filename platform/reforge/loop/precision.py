"""bf16 autocast where the device has bf16 units, float32 elsewhere."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def has_bf16_units(device: torch.device) -> bool:
    """Whether matrix products in bf16 run on units made for it: a recent GPU, or a CPU with AMX.

    A CPU that only has AVX-512's bf16 instructions, or emulates them, is slower in bf16 than in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def resolve_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """What `precision` means on `device`."""
    if precision == "auto":
        return "bf16" if has_bf16_units(device) else "fp32"
    return precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run; a no-op in float32."""
    enabled = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
