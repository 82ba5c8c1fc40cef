"""What many GPUs would take and give, on paper: nothing here was run on one. docs/scaling.md explains the formulas.

All figures are decimal (GB = 1e9 bytes) and deliberately round; change them by the options of `scaling.py plan`.
"""

import math
from dataclasses import dataclass, replace

# Bytes a parameter with AdamW in float32. Autocast's copies are kept from the forward to the backward pass, and DDP's
# buckets are copies of the gradients.
WEIGHTS, GRADIENTS, MOMENTS = 4, 4, 8
COPIES, BUCKETS = 2, 4
STATE = WEIGHTS + GRADIENTS + MOMENTS
GB = 1e9


@dataclass(frozen=True)
class Size:
    """A model. tokens: the global batch that it is trained with, about as published for such sizes"""

    name: str
    parameters: float
    tokens: float


SIZES = (
    Size("35 M", 35e6, 0.25e6),
    Size("110 M", 110e6, 0.5e6),
    Size("1 B", 1e9, 1e6),
    Size("7 B", 7e9, 4e6),
)
WORLDS = (8, 64, 256, 1024)
MEMORIES_GB = (24, 48, 80, 141)


@dataclass(frozen=True)
class Machines:
    """What is assumed of the machines.

    flops: of a GPU's matrix products in bfloat16, a second; mfu: the share of it that training reaches
    inside: bytes a second of each GPU to the others of its node
    outside, slow_outside: bytes a second of a node's network, one way: 400 and 100 Gb/s
    latency: seconds of one hop of a ring
    usable: the share of a GPU's memory that weights, gradients and optimizer may take; the rest is for activations
    mtbf_hours: of a node, between failures
    storage: bytes a second at which checkpoints are written
    """

    gpus_a_node: int = 8
    flops: float = 400e12
    mfu: float = 0.4
    inside: float = 200e9
    outside: float = 50e9
    slow_outside: float = 12.5e9
    latency: float = 10e-6
    usable: float = 0.7
    mtbf_hours: float = 5_000.0
    storage: float = 2e9


def ring_bytes(num_bytes: float, num_members: int) -> float:
    """Bytes that each member of a ring sends in one all-reduce."""
    return 2 * (num_members - 1) / num_members * num_bytes


def all_reduce_seconds(num_bytes: float, num_gpus: int, machines: Machines) -> float:
    """Inside each node a reduce-scatter and an all-gather, and between nodes a ring of each GPU's share."""
    inside = min(num_gpus, machines.gpus_a_node)
    nodes = math.ceil(num_gpus / machines.gpus_a_node)
    seconds = ring_bytes(num_bytes, inside) / machines.inside
    if nodes > 1:
        # The shares of all GPUs of a node go through its network: together they are the whole.
        seconds += ring_bytes(num_bytes, nodes) / machines.outside
    return seconds + 2 * (inside + nodes - 2) * machines.latency


def compute_seconds(size: Size, num_gpus: int, machines: Machines) -> float:
    """Forward and backward of a global batch: 6 operations a parameter and token."""
    return 6 * size.parameters * size.tokens / num_gpus / (machines.flops * machines.mfu)


@dataclass(frozen=True)
class Step:
    """One step of DDP: seconds of computing and of the all-reduce."""

    compute: float
    reduce: float

    @property
    def without_overlap(self) -> float:
        """The share of the time that is computing, one after the other."""
        return self.compute / (self.compute + self.reduce)

    @property
    def with_overlap(self) -> float:
        """The same where the all-reduce runs beside the backward pass, two thirds of the computing."""
        return self.compute / (self.compute + max(0.0, self.reduce - 2 / 3 * self.compute))


def step(size: Size, num_gpus: int, machines: Machines) -> Step:
    """A step of the size's own global batch on so many GPUs."""
    gradients = GRADIENTS * size.parameters
    return Step(compute_seconds(size, num_gpus, machines), all_reduce_seconds(gradients, num_gpus, machines))


def critical_tokens(loss: float) -> float:
    """The batch at which half of the best step's gain is left: B* / loss^(1/alpha) (Kaplan et al. 2020, eq. 5.3)."""
    return 2e8 / float(loss ** (1 / 0.21))


def largest(memory_gb: float, machines: Machines, num_gpus: int = 1) -> float:
    """Parameters of the largest model whose state fits: whole on each GPU, or in slices over `num_gpus`."""
    held = STATE + COPIES + BUCKETS if num_gpus == 1 else STATE / num_gpus
    return machines.usable * memory_gb * GB / held


def sharded_bytes(parameters: float, num_gpus: int) -> float:
    """Bytes of state on a GPU under FSDP (ZeRO-3), without the one block that is gathered at a time."""
    return STATE * parameters / num_gpus


def failures_a_day(num_gpus: int, machines: Machines) -> float:
    """Of all nodes together; each has one in `mtbf_hours`."""
    return math.ceil(num_gpus / machines.gpus_a_node) * 24 / machines.mtbf_hours


def best_interval(write_seconds: float, num_gpus: int, machines: Machines) -> float:
    """Seconds between checkpoints that cost least: sqrt(2 x writing x time between failures) (Young 1974)."""
    between = 24 * 3600 / failures_a_day(num_gpus, machines)
    return math.sqrt(2 * write_seconds * between)


def lost_share(write_seconds: float, restart_seconds: float, num_gpus: int, machines: Machines) -> float:
    """The share of time that goes into writing checkpoints, doing steps again and starting again."""
    interval, between = best_interval(write_seconds, num_gpus, machines), 86400 / failures_a_day(num_gpus, machines)
    return write_seconds / interval + (interval / 2 + restart_seconds) / between


def table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([f"**{title}**", "", *lines, ""])


def report(machines: Machines, restart_seconds: float = 120.0) -> str:
    """All tables of docs/scaling.md."""
    memory = [
        [
            size.name,
            *(f"{part * size.parameters / GB:,.2f}" for part in (WEIGHTS, GRADIENTS, MOMENTS)),
            f"{(COPIES + BUCKETS) * size.parameters / GB:,.2f}",
            f"{(STATE + COPIES + BUCKETS) * size.parameters / GB:,.1f}",
            *(f"{sharded_bytes(size.parameters, n) / GB:,.2f}" for n in WORLDS),
        ]
        for size in SIZES
    ]
    ends = [[f"{gb} GB", *(f"{largest(gb, machines, n) / 1e9:,.1f} B" for n in (1, *WORLDS))] for gb in MEMORIES_GB]
    efficiency = []
    for size in SIZES:
        steps = [step(size, n, machines) for n in WORLDS]
        slow = [step(size, n, replace(machines, outside=machines.slow_outside)) for n in WORLDS]
        efficiency += [
            [size.name, "computing, ms", *(f"{1e3 * s.compute:,.1f}" for s in steps)],
            ["", "all-reduce, ms", *(f"{1e3 * s.reduce:,.1f}" for s in steps)],
            ["", "one after the other", *(f"{s.without_overlap:.0%}" for s in steps)],
            ["", "overlapped", *(f"{s.with_overlap:.0%}" for s in steps)],
            ["", "overlapped, slow network", *(f"{s.with_overlap:.0%}" for s in slow)],
            ["", "tokens a GPU", *(f"{size.tokens / n:,.0f}" for n in WORLDS)],
        ]
    faults = []
    for n in WORLDS:
        write = 12 * SIZES[-1].parameters / machines.storage
        cells = [
            f"{failures_a_day(n, machines):.2f}",
            f"{best_interval(write, n, machines) / 60:,.0f}",
            f"{lost_share(write, restart_seconds, n, machines):.1%}",
        ]
        faults.append([f"{n:,}", f"{write:,.0f}", *cells])
    gpus = [f"{n:,} GPUs" for n in WORLDS]
    losses = (4.0, 3.0, 2.5, 2.0)
    critical = [["tokens", *(f"{critical_tokens(loss) / 1e6:,.2f} M" for loss in losses)]]
    return "\n".join(
        [
            table(
                "State of the model, GB",
                ["", "weights", "gradients", "AdamW", "copies", "DDP, each GPU", *gpus],
                memory,
            ),
            table("Largest model whose state fits", ["memory", "DDP", *(f"FSDP, {g}" for g in gpus)], ends),
            table("Critical batch", ["loss, nats a token", *(f"{loss:g}" for loss in losses)], critical),
            table("A step of DDP and its efficiency", ["", "", *gpus], efficiency),
            table(
                "Failures and checkpoints of the 7 B model",
                ["GPUs", "s to write", "failures a day", "best interval, min", "time lost"],
                faults,
            ),
        ]
    )
