"""The CPU kernel's building, its fallback, and what it computes where the shared tests of attention do not look."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from reforge.models import lsh_hashing, lsh_kernel
from reforge.models.lsh_attention import LSHAttention
from reforge.models.lsh_hashing import Hashes

needs_compiler = pytest.mark.skipif(lsh_kernel.find_compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def _no_kernel_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As in a fresh process with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lsh_kernel.is_available.cache_clear()
    yield
    lsh_kernel.is_available.cache_clear()


def compiler(folder: Path, does: str) -> str:
    """A program that stands for a compiler; `$out` is the file that it is asked to make."""
    path = folder / "g++"
    path.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done; out=$2\n{does}\n')
    path.chmod(0o755)
    return str(path)


def attention(backend: Any = "auto", **options: Any) -> LSHAttention:
    defaults: dict[str, Any] = {"block_tokens": 64, "bucket_size": 16, "num_hashes": 2, "causal": True}
    return LSHAttention(**(defaults | options), backend=backend)


@pytest.mark.usefixtures("_no_kernel_yet")
@pytest.mark.parametrize("does", [None, "echo no such header >&2; exit 1", "echo nonsense >$out"])
def test_without_a_kernel_the_operators_run_and_one_warning_says_so(
    does: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = None if does is None else compiler(tmp_path, does)
    monkeypatch.setattr(lsh_kernel, "find_compiler", lambda: found)
    qk, v = torch.randn(2, 1, 64, 2, 16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        out = attention()(qk, v)
        attention()(qk, v)
    assert [str(w.message).partition(":")[0] for w in caught] == [
        "LSH attention runs without its CPU kernel, which is slower"
    ]
    torch.manual_seed(0)
    assert torch.equal(out, attention("operators")(qk, v))
    with pytest.raises(ValueError, match="needs a compiler"):
        attention("kernel")(qk, v)


def test_who_builds_at_the_same_moment_builds_once(tmp_path: Path) -> None:
    """Threads here: the lock belongs to the opened file, so that they are to each other what processes are."""
    slow = compiler(tmp_path, f"echo built >>{tmp_path}/log; sleep 0.5; echo whole >$out")
    with ThreadPoolExecutor(max_workers=3) as threads:
        built = list(threads.map(lambda _: lsh_kernel.build(tmp_path / "cache", slow).read_text(), range(3)))
    assert built == ["whole\n"] * 3
    assert (tmp_path / "log").read_text().split() == ["built"]


@pytest.mark.slow  # starts processes
def test_a_build_that_was_killed_holds_up_no_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reforge.models import lsh_kernel;"
        "lsh_kernel.build(Path(sys.argv[1]), sys.argv[2])"
    )
    stuck = compiler(tmp_path, f"echo half >$out; touch {tmp_path}/started; exec sleep 60")
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), stuck]
    path = os.environ | {"PYTHONPATH": str(Path(lsh_kernel.__file__).parents[2])}
    killed = subprocess.Popen(command, env=path, start_new_session=True)
    while not (tmp_path / "started").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    built = lsh_kernel.build(tmp_path / "cache", compiler(tmp_path, "echo whole >$out"))
    assert built.read_text() == "whole\n"
    assert {found.name for found in built.parent.iterdir()} == {built.name, "lsh_kernel.lock"}
    os.killpg(killed.pid, signal.SIGKILL)  # the stuck compiler


@needs_compiler
def test_inputs_that_do_not_suit_take_the_operators() -> None:
    qk, v = torch.randn(2, 1, 64, 2, 24)
    hashes = Hashes()
    out = attention()(qk, v, hashes=hashes)
    assert torch.equal(out, attention("operators")(qk, v, hashes=hashes))
    with pytest.raises(ValueError, match="heads of 24"):
        attention("kernel")(qk, v)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [1, 3, 16, 21, 64])
def test_nearest_takes_the_first_of_equals(dtype: torch.dtype, columns: int) -> None:
    assert lsh_kernel.is_available()
    torch.manual_seed(0)
    rotated = torch.randint(-4, 5, (50, 3, columns)).to(dtype)
    for used in (None, torch.tensor((columns + 1) // 2)):
        expected = lsh_hashing.nearest(rotated, used)
        assert torch.equal(lsh_kernel.nearest(rotated, used).long(), expected)


@needs_compiler
def test_sorting_keeps_equals_in_order() -> None:
    assert lsh_kernel.is_available()
    buckets = torch.randint(0, 7, (2, 3, 100)).int()
    assert torch.equal(lsh_kernel.sort_by_bucket(buckets, 6), lsh_hashing.sort_by_bucket(buckets, 6))


@needs_compiler
@pytest.mark.parametrize("bucket_size", [16, 32, 48, 64])
@pytest.mark.parametrize("width", [16, 32, 48, 80])
def test_every_width_and_bucket_size(bucket_size: int, width: int) -> None:
    """Large scores too: those of a row lie far apart, and most weights are too small for a float."""
    torch.manual_seed(0)
    shape = (1, 4 * bucket_size, 2, width)
    qk, v, weights = 30 * torch.randn(shape), torch.randn(shape), torch.randn(shape)
    hashes = Hashes()
    results = []
    for backend, dtype in (("kernel", torch.float32), ("operators", torch.float64)):
        inputs = [x.to(dtype).requires_grad_() for x in (qk, v)]
        layer = attention(backend, block_tokens=shape[1], bucket_size=bucket_size)
        out = layer(*inputs, hashes=hashes)
        results.append((out, *torch.autograd.grad((out * weights).sum(), inputs)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@needs_compiler
def test_inputs_may_lie_in_any_order_and_grads_may_be_broadcast() -> None:
    torch.manual_seed(0)
    hashes = Hashes()
    results = []
    for arrange in (lambda x: x, lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)):
        torch.manual_seed(1)
        qk, v = (arrange(torch.randn(2, 64, 3, 16)).requires_grad_() for _ in range(2))
        out = attention("kernel")(qk, v, hashes=hashes)
        results.append((out, *torch.autograd.grad(out.sum(), (qk, v))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@needs_compiler
def test_threads_change_nothing() -> None:
    qk, v = (x.requires_grad_() for x in torch.randn(2, 3, 64, 2, 16))
    hashes = Hashes()
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            out = attention("kernel")(qk, v, hashes=hashes)
            results.append((out, *torch.autograd.grad(out.square().sum(), (qk, v))))
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow  # starts processes
@needs_compiler
def test_the_kernel_runs_on_as_many_threads_as_torch() -> None:
    code = (
        "import os, torch; from reforge.models import lsh_kernel; assert lsh_kernel.is_available();"
        "torch.set_num_threads(3); buckets = torch.zeros(3, 1, 64, dtype=torch.int32);"
        "before = len(os.listdir('/proc/self/task')); lsh_kernel.sort_by_bucket(buckets, 1);"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    path = os.environ | {"PYTHONPATH": str(Path(lsh_kernel.__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    assert int(ended.stdout) == 2


@needs_compiler
def test_what_is_not_a_number_stays_seen() -> None:
    qk, v = torch.randn(2, 1, 64, 1, 16)
    qk[0, 10] = torch.nan
    out = attention("kernel", causal=False)(qk, v)
    assert out[0, 10].isnan().all()


@needs_compiler
@pytest.mark.parametrize("causal", [False, True])
def test_bfloat16_costs_half_a_percent_at_most(causal: bool) -> None:
    """Also where the processor multiplies pairs of bfloat16: what is summed is float32."""
    torch.manual_seed(0)
    shape = (1, 512, 1, 64)
    qk, v, weights = (torch.randn(shape, dtype=torch.bfloat16) for _ in range(3))
    hashes = Hashes()
    results = []
    for backend, dtype in (("kernel", torch.bfloat16), ("operators", torch.float64)):
        inputs = [x.to(dtype).requires_grad_() for x in (qk, v)]
        layer = attention(backend, block_tokens=shape[1], bucket_size=64, causal=causal)
        out = layer(*inputs, hashes=hashes)
        results.append((out, *torch.autograd.grad((out * weights).sum(), inputs)))
    for found, expected in zip(*results, strict=True):
        assert (found.double() - expected).norm() < 0.005 * expected.norm()
