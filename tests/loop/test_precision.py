"""Precision: bf16 only where the device has units for it."""

import pytest
import torch

from reforge.loop.precision import autocast, has_bf16_units, resolve_precision

CPU = torch.device("cpu")


def test_auto_follows_the_device() -> None:
    expected = "bf16" if torch.cpu.get_capabilities().get("amx_bf16") else "fp32"
    assert resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast_runs_products_in_that_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recent_gpu_has_bf16_units() -> None:
    assert has_bf16_units(torch.device("cuda")) == (torch.cuda.get_device_capability() >= (8, 0))
