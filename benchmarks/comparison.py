"""The comparison: contenders built side by side, checked, timed in turns, and measured for memory one by one."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from ours import OURS
from peers import PEERS, Build, Contender, Unavailable
from timing import MatmulProbe, Spread, in_child, is_out_of_memory, peak_mib, take_turns, time_once
from workload import SEED, Data, Workload, make_data

from reforge.models import count_parameters

CONTENDERS: dict[str, Build] = PEERS | OURS
BASELINE = "reformer-pytorch"
PROBE = "matrix product"
LOSS_MARGIN = 1.0  # nats that an untrained model's loss may be off ln(vocabulary)


@dataclass
class Row:
    """What one contender did: either `reason` says why it was not measured, or the figures are there."""

    name: str
    reason: str = ""
    note: str = ""
    parameters: int = 0
    first_loss: float = math.nan
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    flops: float = 0.0
    tokens_per_second: float = 0.0
    ratio: float | None = None
    utilisation: float = 0.0
    peak_mib: float | None = None


class Machine(NamedTuple):
    """What the machine gave: its matrix-product rate, and processor time as a share of the time on the clock."""

    matmul_flops_per_second: float
    cpu_share: float


class Trainer:
    """One contender with its optimizer; a call is one training step."""

    def __init__(self, contender: Contender, load: Workload, device: torch.device) -> None:
        self.contender, self.load, self.device = contender, load, device
        contender.model.train()
        self.optimizer = torch.optim.AdamW(contender.model.parameters(), lr=1e-4, fused=True)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 where the workload says so, alike for everyone."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.load.precision == "bf16")

    def __call__(self) -> float:
        """The loss before the step."""
        with self.autocast():
            loss = self.contender.loss()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships this method without types
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach().item()

    def warm_up(self, budget_seconds: float) -> float:
        """The loss of the first of two steps; Unavailable where a step takes too long or the loss is out of line."""

        def forward() -> None:
            with torch.no_grad(), self.autocast():
                self.contender.loss()

        self._check(time_once(forward, self.device).wall, budget_seconds, "forward pass")
        first = self()
        if not abs(first - math.log(self.load.vocab_size)) < LOSS_MARGIN:
            expected = f"about ln({self.load.vocab_size}) = {math.log(self.load.vocab_size):.2f}"
            raise Unavailable(f"its first loss is {first:.2f}, not {expected}: it does other work than the rest")
        self._check(time_once(self, self.device).wall, budget_seconds, "step")
        return first

    @staticmethod
    def _check(seconds: float, budget_seconds: float, what: str) -> None:
        if seconds > budget_seconds:
            raise Unavailable(f"over the budget: one {what} took {seconds:.1f} s of {budget_seconds:g} s")


def prepare(name: str, load: Workload, data: Data, device: torch.device) -> Trainer:
    """A fresh contender on `device`, its weights a function of the seed."""
    torch.manual_seed(SEED)
    contender = CONTENDERS[name](load, data)
    contender.model.to(device)
    return Trainer(contender, load, device)


def admit(row: Row, load: Workload, data: Data, device: torch.device, budget_seconds: float) -> Trainer | None:
    """The row's contender, warm and checked; None, with the reason in the row, where it cannot take part."""
    try:
        trainer = prepare(row.name, load, data, device)
        row.first_loss = trainer.warm_up(budget_seconds)
    except Unavailable as unavailable:
        row.reason = str(unavailable)
        return None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        row.reason = "out of memory"
        return None
    row.parameters = count_parameters(trainer.contender.model)
    row.note = trainer.contender.note
    row.flops = trainer.contender.products.train_flops(load)
    return trainer


def compare(
    load: Workload, names: Sequence[str], repeats: int, budget_seconds: float, device: torch.device
) -> tuple[list[Row], Machine]:
    """A row for every name, in order, and what the machine gave in the same turns."""
    data = make_data(load).to(device)
    rows = [Row(name) for name in names]
    trainers = {row.name: trainer for row in rows if (trainer := admit(row, load, data, device, budget_seconds))}
    probe = MatmulProbe(load.num_tokens, load.d_model, load.dtype, device)
    times = take_turns({PROBE: probe, **trainers}, repeats, device)
    everything = [turn for turns in times.values() for turn in turns]
    share = sum(turn.cpu for turn in everything) / sum(turn.wall for turn in everything)
    machine = Machine(probe.flops / Spread.of([turn.wall for turn in times[PROBE]]).median, share)
    for row in rows:
        row.seconds = [turn.wall for turn in times.get(row.name, [])]
        row.cpu_seconds = [turn.cpu for turn in times.get(row.name, [])]
        if row.name in trainers and not row.seconds:
            row.reason = "out of memory beside the others"
    fill(rows, load, machine.matmul_flops_per_second)
    return rows, machine


def fill(rows: list[Row], load: Workload, rate: float) -> None:
    """Work the figures out of the measured seconds, in place."""
    medians = {row.name: Spread.of(row.seconds).median for row in rows if row.seconds}
    for row in rows:
        if row.name in medians:
            row.tokens_per_second = load.num_tokens / medians[row.name]
            row.utilisation = row.flops / medians[row.name] / rate
            row.ratio = medians[BASELINE] / medians[row.name] if BASELINE in medians else None


def memory_of(name: str, load: Workload, threads: int, device_name: str) -> float:
    """Peak memory in MiB of building a contender and two training steps; call it in a process of its own."""
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    data = make_data(load).to(device)
    tiny = replace(load, num_blocks=1, block_tokens=2 * load.bucket_size, d_model=64, depth=1, num_heads=1)
    prepare(name, tiny, make_data(tiny).to(device), device)()  # loads what the libraries load once, not counted

    def two_steps() -> None:
        trainer = prepare(name, load, data, device)
        trainer()
        trainer()

    return peak_mib(two_steps, device)


def add_memory(rows: list[Row], load: Workload, threads: int, device: torch.device) -> None:
    """Measure the peak memory of every contender that was timed, in place."""
    for row in rows:
        if row.seconds:
            try:
                row.peak_mib = in_child(memory_of, row.name, load, threads, str(device))
            except MemoryError as error:
                row.reason = f"memory not measured: {error}"
