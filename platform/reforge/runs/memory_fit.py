"""From an estimate to what is measured: a line through dry runs, and whether a job fits under a limit by it.

What the estimate does not know grows with it or is the same for every job: what the allocator holds and does not use,
scratch memory of the libraries, their code. Two numbers hold both.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from reforge.models import Device
from reforge.runs.memory_model import KnownRows, MemoryEstimate, estimate
from reforge.runs.trial_job import TrialJob

GIB = 2**30
SLOPES = (0.5, 3.0)  # beyond these a measurement was of something else
# Of a limit, what is left free: what the fit does not explain.
HEADROOM = {"cuda": 0.1, "cpu": 0.3}
# Resident memory of an idle worker: the interpreter, torch with its optimizers' imports, Ray (measured: 0.48 GiB).
PROCESS_BYTES = GIB // 2


@dataclass(frozen=True)
class MemoryFit:
    """measured = `intercept` + `slope` x estimated, in bytes; without points the estimate as it is."""

    points: tuple[tuple[int, int], ...] = ()
    intercept: float = 0.0
    slope: float = 1.0

    @classmethod
    def of(cls, points: Iterable[tuple[int, int]]) -> "MemoryFit":
        """The line with the least sum of relative errors over (estimated, measured) bytes; of one point a scale.

        Absolute errors, so that one measurement that went wrong does not bend it: such a line goes through two points.
        """
        kept = tuple((int(estimated), int(measured)) for estimated, measured in points)
        lines = [(0.0, measured / estimated) for estimated, measured in kept]
        for (x, y), (other_x, other_y) in combinations(kept, 2):
            if x != other_x:
                slope = (other_y - y) / (other_x - x)
                lines.append((y - slope * x, slope))
        fit = [line for line in lines if SLOPES[0] <= line[1] <= SLOPES[1] and line[0] >= 0] or [(0.0, 1.0)]
        intercept, slope = min(fit, key=lambda line: sum(abs(line[0] + line[1] * x - y) / y for x, y in kept))
        return cls(kept, intercept, slope)

    def with_point(self, estimated: int, measured: int) -> "MemoryFit":
        """The fit with one measurement more."""
        return self.of((*self.points, (estimated, measured)))

    def predict(self, estimated: MemoryEstimate) -> int:
        """The bytes that will be measured; never less than the parameters and what the optimizer keeps of them."""
        least = estimated.parameters + estimated.gradients_and_optimizer
        return max(least, int(self.intercept + self.slope * estimated.total))

    def as_json(self) -> dict[str, Any]:
        """What `of_json` takes."""
        return {"points": [list(point) for point in self.points], "intercept": self.intercept, "slope": self.slope}

    @classmethod
    def of_json(cls, kept: dict[str, Any]) -> "MemoryFit":
        """The fit that `as_json` gave."""
        return cls(tuple((x, y) for x, y in kept["points"]), kept["intercept"], kept["slope"])


NO_FIT = MemoryFit()


def fits(
    job: TrialJob,
    limit_bytes: int,
    device: Device,
    fit: MemoryFit = NO_FIT,
    headroom: float | None = None,
    num_workers: int = 1,
    vocab_size: int | None = None,
    rows: KnownRows | None = None,
) -> str:
    """ "" where a worker of the job fits into `limit_bytes` with a share of it left, else why not.

    headroom: that share; None: as much as the fit was found to miss on this kind of device
    """
    needed = estimate(job, device, num_workers, vocab_size, rows)
    predicted = fit.predict(needed)
    free = HEADROOM[device.kind] if headroom is None else headroom
    if predicted <= limit_bytes * (1 - free):
        return ""
    parts = {
        "parameters": needed.parameters,
        "gradients and optimizer": needed.gradients_and_optimizer,
        "activations": needed.activations,
        "logits": needed.logits,
        "allocator and libraries": predicted - needed.total,
    }
    named = ", ".join(f"{name} {in_gib(size)}" for name, size in parts.items() if size >= GIB / 200)
    return f"needs about {in_gib(predicted)} GiB of {in_gib(limit_bytes)} GiB: {named}"


def limit_of_a_trial(device: Device, gpus: float, trials_at_a_time: int, num_workers: int = 1) -> int:
    """Bytes that one worker of a trial may take for its job: its share of a GPU, or an equal share of the machine.

    On a CPU without what every worker takes whatever its job, and the driver too.
    gpus: of one worker; `device.memory_bytes`: of a whole GPU, or of the whole machine
    """
    if device.kind == "cuda":
        return int(device.memory_bytes * min(1.0, gpus))
    num_shares = max(1, trials_at_a_time) * num_workers
    return max(0, (device.memory_bytes - PROCESS_BYTES * (num_shares + 1)) // num_shares)


def in_gib(num_bytes: int) -> str:
    """GiB with one digit behind the point, two below one."""
    return f"{num_bytes / GIB:.1f}" if num_bytes >= GIB else f"{num_bytes / GIB:.2f}"
