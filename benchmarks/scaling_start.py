"""From the start of a job's process to its first optimizer step, by what can be seen from outside.

The corpus is prepared, as at a job's second start. Stages, by the times at which the job's processes appear in /proc or
are given their titles by Ray, and by those of the run's own files:

    driver      the process starts -> Ray's head does: imports, the spec
    Ray         -> a first actor is there, which collects the progress
    controller  -> that of Ray Train is
    group       -> a first worker is: the controller imports Ray Train, and asks for the workers
    workers     -> the run's event file: imports of torch and of the package, torch's group, data, model, optimizer
    first step  -> the first optimizer step
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from raylets import below, program, title
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

STAGES = ("driver", "Ray", "controller", "group", "workers", "first step")
LOOK_SECONDS, GIVE_UP_SECONDS = 0.05, 300.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Start:
    """When each stage began, on the wall clock, and the processor's time that all processes had taken by the end."""

    moments: list[float]
    cpu_seconds: float
    cpu_by_process: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the start to the first step."""
        return self.moments[-1] - self.moments[0]

    @property
    def stages(self) -> list[float]:
        """Seconds of each stage."""
        return [late - early for early, late in pairwise(self.moments)]


class Watch:
    """Notes when processes below one appear."""

    def __init__(self, pid: int, wanted: dict[str, Callable[[int], bool]]) -> None:
        self.pid, self.wanted = pid, wanted
        self.seen: dict[str, float] = {}
        self.cpu: dict[int, tuple[str, float]] = {}

    def look(self) -> None:
        """Look once."""
        for pid in [self.pid, *below(self.pid)]:
            with suppress(OSError, IndexError, ValueError):
                name = title(pid) or program(pid)
                self.cpu[pid] = (name, max(cpu_seconds(pid), self.cpu.get(pid, ("", 0.0))[1]))
            for what, is_it in self.wanted.items():
                if what not in self.seen and is_it(pid):
                    self.seen[what] = time.time()


def measure(tree: Path, words: Sequence[str], run_folder: Path) -> Start:
    """Start the pre-training job of a checkout, and end it after its first step."""
    wanted = {
        "head": lambda pid: program(pid) == "gcs_server",
        "node": lambda pid: title(pid).startswith("ray::") and "IDLE" not in title(pid),
        "controller": lambda pid: "TrainController" in title(pid),
        "group": lambda pid: "RayTrainWorker" in title(pid),
    }
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, str(tree / "jobs" / "pretrain.py"), *words],
        env={**os.environ, "PYTHONPATH": str(tree / "platform")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    watch = Watch(process.pid, wanted)
    try:
        while (events := first_events(run_folder)) is None:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.time() - began < GIVE_UP_SECONDS, f"no step after {GIVE_UP_SECONDS:.0f} s"
            watch.look()
            time.sleep(LOOK_SECONDS)
        watch.look()
    finally:
        end(process)
    moments = [began, *(watch.seen[name] for name in wanted), *events]
    names: dict[str, float] = {}
    for name, seconds in watch.cpu.values():
        names[kind_of(name)] = names.get(kind_of(name), 0.0) + seconds
    return Start(sorted(moments), sum(names.values()), names)


def first_events(folder: Path) -> tuple[float, float] | None:
    """When the run's event file was made and its first step logged; None as long as there is none."""
    for file in folder.glob("tensorboard/events.*"):
        events = list(EventFileLoader(str(file)).Load())
        steps = [event.wall_time for event in events if any(v.tag == "train/loss" for v in event.summary.value)]
        if steps:
            return events[0].wall_time, steps[0]
    return None


def end(process: "subprocess.Popen[bytes]") -> None:
    """End the job and all that it started."""
    everything = below(process.pid)
    process.send_signal(signal.SIGKILL)
    for pid in everything:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def kind_of(name: str) -> str:
    """What a process is, by its title."""
    if name.startswith("ray::"):
        return name.split()[0].split(".")[0].removeprefix("ray::")
    parts = ("gcs_server", "raylet/raylet", "runtime_env/agent", "dashboard/agent", "log_monitor", "monitor.py")
    return next((part for part in parts if part in name), "driver" if "pretrain.py" in name else "others")
