"""What a job's first steps really take of a device's memory.

On a GPU it is what torch's allocator handed out at most. On a CPU it is resident memory above what the process had
before the model was built: what the C library's allocator keeps of freed memory counts, the libraries' scratch buffers
too, and those pages of their code that are read for the first time; it varies by some per cent from run to run.
"""

import gc
import importlib
import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.trial_job import TrialJob

if TYPE_CHECKING:
    from reforge.runs.dry_run import DryRun

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryMeter:
    """The most memory in use on `device` since this object was made, above what was in use then."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            importlib.import_module("torch._dynamo")  # as the first optimizer does: 70 MiB that are no job's
            self.before = resident_bytes("VmRSS") if forget_peak() else peak_resident_bytes()

    def peak(self) -> int:
        """In bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return peak_resident_bytes() - self.before


def measure_peak(job: TrialJob, device: torch.device, prepared_folder: Path | None = None) -> "DryRun":
    """A dry run in a fresh process, whose memory nothing else has touched.

    prepared_folder: of a pre-training
    Raises MemoryError where the job does not fit, UserError where it cannot run.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(_measure, job, device.type, prepared_folder, torch.get_num_threads()).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process was ended, as the system does when memory runs out") from error


def _measure(job: TrialJob, device_kind: str, prepared_folder: Path | None, num_threads: int) -> "DryRun":
    from reforge.runs.dry_run import dry_run, dry_run_finetune

    torch.set_num_threads(num_threads)
    device = torch.device(device_kind)
    try:
        if isinstance(job, FinetuneJob):
            return dry_run_finetune(job, device)
        assert prepared_folder is not None, "a pre-training is measured on prepared data"
        return dry_run(job, prepared_folder, device)
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from None


def measure_handed_out(job: TrialJob, prepared_folder: Path | None = None) -> "DryRun":
    """A dry run on the CPU whose memory is what torch's allocator handed out at most, as it is measured on a GPU.

    By torch's profiler, which writes every allocation down: the run's speed is worth nothing. Nothing that was freed
    and kept counts, so this process will do.
    """
    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        run = _measure(job, "cpu", prepared_folder, torch.get_num_threads())
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    most = max(accumulate(changes), default=0)
    return replace(run, measured_bytes=most)


def forget_peak() -> bool:
    """Let the peak of this process's memory be what it has now; False where the system has no such way."""
    try:
        CLEAR.write_text("5", encoding="ascii")  # proc_pid_clear_refs(5)
    except OSError:
        return False
    return STATUS.exists()


def peak_resident_bytes() -> int:
    """The most memory that this process has had, or has had since `forget_peak`."""
    if STATUS.exists():
        return resident_bytes("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes(field: str) -> int:
    """A line of this process's status on Linux, VmRSS (now) or VmHWM (at most)."""
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
