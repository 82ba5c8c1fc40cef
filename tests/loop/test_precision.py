"""Precision: bf16 only where the device has units for it."""

import pytest
import torch

from reforge.loop.precision import Precision, autocast, has_bf16_units, resolve_precision
from reforge.spec import UserError

CPU = torch.device("cpu")


def test_auto_follows_the_device() -> None:
    capabilities = torch.cpu.get_capabilities()
    has_units = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    assert resolve_precision("auto", CPU) == ("bf16" if has_units else "fp32")


def test_bf16_is_refused_where_there_are_no_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False, "avx2": True})
    with pytest.raises(UserError, match=r"train\.precision: bf16 needs a CPU with bf16 units"):
        resolve_precision("bf16", CPU)
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast_runs_products_in_that_precision(precision: Precision, dtype: torch.dtype) -> None:
    if precision == "auto" and not has_bf16_units(CPU):
        pytest.skip("this CPU has no bf16 units")
    with autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recent_gpu_has_bf16_units() -> None:
    assert has_bf16_units(torch.device("cuda")) == (torch.cuda.get_device_capability() >= (8, 0))
