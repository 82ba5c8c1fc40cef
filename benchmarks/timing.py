"""Time and memory, measured so that contenders can be compared.

Contenders take turns (A B C A B C), so that a machine that slows down slows all of them. The rate of a plain matrix
product is taken in the same turns: it says what the machine gave at that moment. Peak memory is taken in a child
process of its own, since memory that one contender returned is reused by the next.
"""

import gc
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

MIB = 2**20
PROBE_SECONDS = 0.05  # how long one look at the matrix product's rate lasts, at least

P = ParamSpec("P")
T = TypeVar("T")


class Spread(NamedTuple):
    """Median of several measurements and their range as a share of it."""

    median: float
    range: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of at least one value."""
        median = statistics.median(values)
        return cls(median, (max(values) - min(values)) / median)


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Seconds(NamedTuple):
    """How long something took: on the clock, and of processor time in all threads."""

    wall: float
    cpu: float


def time_once(work: Callable[[], object], device: torch.device) -> Seconds:
    """How long `work` takes, garbage of what ran before collected beforehand."""
    gc.collect()
    wait_for(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wait_for(device)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def take_turns(
    contenders: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[Seconds]]:
    """Times of `repeats` calls of every contender, one call each in turn; none of one that runs out of memory."""
    times: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name in list(times):
            try:
                times[name].append(time_once(contenders[name], device))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                del times[name]
    return times


class MatmulProbe:
    """A matrix product of [rows, d_model] by [d_model, 4 d_model], as often as a measurable time needs."""

    def __init__(self, rows: int, d_model: int, dtype: torch.dtype, device: torch.device) -> None:
        self.a: Tensor = torch.randn(rows, d_model, device=device).to(dtype)
        self.b: Tensor = torch.randn(d_model, 4 * d_model, device=device).to(dtype)
        self.out = torch.empty(rows, 4 * d_model, dtype=dtype, device=device)
        self.times = 1
        self()  # the first call sets the library up
        self.times = max(3, round(PROBE_SECONDS / max(1e-9, time_once(self, device).wall)))

    def __call__(self) -> None:
        for _ in range(self.times):
            torch.mm(self.a, self.b, out=self.out)

    @property
    def flops(self) -> float:
        """Operations of one call."""
        return 2.0 * self.times * self.a.shape[0] * self.a.shape[1] * self.b.shape[1]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; torch's CPU allocator has no exception of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """Bytes of the device's memory that are free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _kib("/proc/meminfo", "MemAvailable")
    return free * 1024 if free is not None else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def limit_memory() -> None:
    """Let an allocation beyond what is free fail, where the operating system would end the process for it."""
    free, own = _kib("/proc/meminfo", "MemAvailable"), _kib("/proc/self/status", "VmData")
    if free is not None and own is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, ((free + own) * 1024, hard))


def peak_mib(work: Callable[[], object], device: torch.device) -> float:
    """MiB by which `work` raises the peak of this process's memory (of the device's, on a GPU)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return float((torch.cuda.max_memory_allocated(device) - before) / MIB)
    start = _kib("/proc/self/status", "VmRSS") or _ru_maxrss_kib()
    work()
    return ((_kib("/proc/self/status", "VmHWM") or _ru_maxrss_kib()) - start) / 1024


def in_child(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, from a fresh process; MemoryError where the system ended it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process was ended, as the system does when memory runs out") from error


def _ru_maxrss_kib() -> int:
    """Peak of this process, where there is no /proc: on Linux ru_maxrss starts at that of the parent."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def _kib(path: str, field: str) -> int | None:
    if not Path(path).exists():
        return None
    lines = Path(path).read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)
