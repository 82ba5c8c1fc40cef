"""The CPU kernel of LSH attention: `lsh_*.cpp`, compiled on first use for the very CPU that it runs on.

Without a compiler attention goes over torch's operators: the same results, slower; a warning says so once. The built
file is kept in the user's cache under a name made of all that went into it, and put there by a rename: what stands
there is whole. Processes that need it at the same moment wait for one of them to build it; their lock is the system's,
so that a build that was killed holds up no one.

Shapes: those of `lsh_layout.py`.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from reforge.models.lsh_layout import Layout

SOURCES = sorted(path for path in Path(__file__).parent.glob("lsh_*") if path.suffix in (".cpp", ".h"))
# Without -fopenmp torch's parallel loops run on one thread. No -ffast-math: it would undo the rounding tricks of the
# exponential, and change what infinities do.
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fopenmp", "-fPIC", "-shared", "-w")
# Rows of these many values fill whole registers.
MULTIPLE = 16


class BuildError(Exception):
    """Why there is no kernel."""


def cache_folder() -> Path:
    """Where built kernels are kept."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(chosen or Path.home() / ".cache") / "reforge"
    except RuntimeError as error:
        raise BuildError("this user has no home folder to keep it in, and XDG_CACHE_HOME is not set") from error


def find_compiler() -> str | None:
    """The C++ compiler on the PATH, if there is one."""
    return shutil.which("g++") or shutil.which("c++")


def processor() -> str:
    """What tells two kinds of CPU apart: code for one may not run on the other, and a home folder may be shared."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def build(folder: Path, compiler: str | None) -> Path:
    """The compiled kernel in `folder`, built if it is not there yet."""
    ingredients = (*(path.read_text() for path in SOURCES), *FLAGS, torch.__version__, str(compiler), processor())
    fingerprint = hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:16]
    built = folder / f"lsh_kernel-{fingerprint}.so"
    if built.exists():
        return built
    if compiler is None:
        raise BuildError("there is no C++ compiler (g++) on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lsh_kernel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            for stale in folder.glob("building-*"):  # of builds that were killed: nobody else holds the lock
                shutil.rmtree(stale, ignore_errors=True)
            _compile(compiler, built)
    return built


def _compile(compiler: str, built: Path) -> None:
    root = Path(torch.__file__).parent
    include = [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    libraries = [f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10"]
    with tempfile.TemporaryDirectory(prefix="building-", dir=built.parent) as scratch:
        made = Path(scratch) / built.name
        units = [str(path) for path in SOURCES if path.suffix == ".cpp"]
        command = [compiler, *FLAGS, abi, *include, *units, "-o", str(made), *libraries]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise BuildError(f"{compiler} failed: {ended.stderr.strip()[-500:]}")
        made.replace(built)


@functools.cache
def is_available() -> bool:
    """Whether the kernel is there. The first call builds it, in some seconds, and warns where it cannot."""
    try:
        torch.ops.load_library(str(build(cache_folder(), find_compiler())))  # type: ignore[no-untyped-call]
    except (BuildError, OSError) as why:
        warnings.warn(f"LSH attention runs without its CPU kernel, which is slower: {why}", stacklevel=2)
        return False
    return True


def suits(qk_BTHD: Tensor, bucket_size: int) -> bool:
    """Whether the kernel can take these inputs."""
    whole = qk_BTHD.shape[-1] % MULTIPLE == 0 and bucket_size % MULTIPLE == 0
    return qk_BTHD.device.type == "cpu" and qk_BTHD.dtype in (torch.float32, torch.bfloat16) and whole


def nearest(rotated: Tensor, num_columns: Tensor | None) -> Tensor:
    """As `lsh_hashing.nearest`."""
    buckets: Tensor = torch.ops.reforge_lsh.nearest(rotated, num_columns)
    return buckets


def sort_by_bucket(buckets_NRS: Tensor, num_buckets: int) -> Tensor:
    """As `lsh_hashing.sort_by_bucket`."""
    order_NRS: Tensor = torch.ops.reforge_lsh.sort_by_bucket(buckets_NRS, num_buckets)
    return order_NRS


def forward(qk_BTHD: Tensor, v_BTHD: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """As `lsh_operators.forward`."""
    inputs = (_rows(x) for x in (qk_BTHD, v_BTHD))
    out, lse = torch.ops.reforge_lsh.forward(*inputs, *_shared(layout))
    return out, lse


def backward(
    grad_BTHD: Tensor, qk_BTHD: Tensor, v_BTHD: Tensor, out_BTHD: Tensor, lse_F: Tensor, layout: Layout
) -> tuple[Tensor, Tensor]:
    """As `lsh_operators.backward`."""
    inputs = (_rows(x) for x in (grad_BTHD, qk_BTHD, v_BTHD, out_BTHD))
    grad_qk, grad_v = torch.ops.reforge_lsh.backward(*inputs, lse_F, *_shared(layout))
    return grad_qk, grad_v


def _rows(x_BTHD: Tensor) -> Tensor:
    return x_BTHD if x_BTHD.stride(-1) == 1 else x_BTHD.contiguous()


def _shared(layout: Layout) -> tuple[Tensor, Tensor | None, Tensor | None, int, bool, bool]:
    rotary = None if layout.rotary is None else layout.rotary[0].float().contiguous()
    order = layout.order_NRS.contiguous()
    return order, layout.lengths_B, rotary, layout.bucket_size, layout.causal, layout.all_pairs
