"""train.compile: the same model, compiled in place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reforge.batches import open_prepared
from reforge.runs import PretrainJob
from reforge.runs.build import build_state
from reforge.spec import UserError

CPU = torch.device("cpu")


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_parts_compute_the_same(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> None:
    prepared = open_prepared(prepared_folder, tiny_job().data)
    results = []
    for compile in ("off", "on"):
        state = build_state(tiny_job(f"train.compile={compile}", "model.ff_dropout=0.0"), prepared, CPU)
        torch.manual_seed(0)
        hidden = state.model.backbone(torch.from_numpy(prepared.train.blocks(np.arange(2))))
        hidden.square().sum().backward()
        results.append((hidden, {n: p.grad for n, p in state.model.backbone.named_parameters()}))
    (hidden, gradients), (compiled, others) = results
    torch.testing.assert_close(compiled, hidden, rtol=1e-4, atol=1e-4)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-3)


def test_a_missing_compiler_is_said(
    tiny_job: Callable[..., PretrainJob], prepared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"train\.compile: on needs a C\+\+ compiler"):
        build_state(tiny_job("train.compile=on"), open_prepared(prepared_folder, tiny_job().data), CPU)
