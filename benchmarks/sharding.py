"""A training step of two processes, each with all of the model (`scale.strategy: ddp`) or a slice of it (fsdp).

    python benchmarks/sharding.py --model transformer

has both take steps in turn in the same two processes, without Ray, one thread each, and prints the first one's medians,
the median of the ratios of neighbouring steps, and the bytes of weights, gradients and averages that it keeps between
two passes.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from reforge.batches import Batch
from reforge.loop import LoopState, OptimizerOptions, TrainOptions, World
from reforge.loop.sharding import notes, shard, slice_of
from reforge.loop.train import take_step, wrap
from reforge.models import BACKBONES
from reforge.objectives import OBJECTIVES, Objective
from reforge.tokenizers import Vocabulary

CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", "memory": "keep"},
    "reformer": {"kind": "reformer", "attention": "exact", "memory": "keep"},
    "reversible": {"kind": "reformer", "attention": "exact", "memory": "reversible"},
}
MIB = 2**20


class Contender(NamedTuple):
    """One of the two: its state, and the module whose forward pass trains it."""

    state: LoopState
    module: nn.Module


def contender(strategy: str, work: argparse.Namespace, world: World) -> Contender:
    """The model, the same weights whatever the strategy."""
    options = BACKBONES[MODELS[work.model]["kind"]].model_validate(
        {**MODELS[work.model], "d_model": work.d_model, "depth": work.depth, "num_heads": work.d_model // 64}
    )
    torch.manual_seed(0)
    model: Objective = OBJECTIVES["mlm"]().build(options, Vocabulary.plain(work.vocab_size), work.block_tokens)
    if strategy == "fsdp":
        shard(model, world)
    state = LoopState(model.train(), OptimizerOptions().build(model), seed=0, data_fingerprint="")
    return Contender(state, wrap(model, world))


def kept_bytes(state: LoopState) -> int:
    """What this process holds between two passes, with a gradient for every weight."""
    weights = [slice_of(p).numel() for p in state.model.parameters()]
    averages = [slice_of(value).numel() for values in state.optimizer.state.values() for value in values.values()]
    return 4 * (2 * sum(weights) + sum(averages))


def step(one: Contender, batches: list[Batch], world: World) -> tuple[float, float, float]:
    """Wall and CPU seconds of a step, and its loss."""
    inputs = [one.state.model.collate(batch, 0) for batch in batches]
    plan = TrainOptions(precision="fp32")
    dist.barrier()
    began, cpu = time.perf_counter(), time.process_time()
    taken = take_step(one.module, one.state, inputs, 1e-4, 1.0, plan, world)
    return time.perf_counter() - began, time.process_time() - cpu, sum(taken.terms.values())


def compare(rank: int, work: argparse.Namespace, meeting: str) -> None:
    """Have both take steps in turn; the first process prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    world = World.current(CPU)
    both = {strategy: contender(strategy, work, world) for strategy in ("ddp", "fsdp")}
    random = np.random.default_rng(rank)
    found: dict[str, list[tuple[float, float, float]]] = {strategy: [] for strategy in both}
    for number in range(work.repeats + 2):  # two to warm up
        rows = np.arange(work.rows) + number * work.rows
        batches = [
            Batch(random.integers(10, work.vocab_size, (work.rows, work.block_tokens)), np.zeros_like(rows), rows)
            for _ in range(work.micro_batches)
        ]
        for strategy in sorted(both, reverse=number % 2 == 1):
            found[strategy].append(step(both[strategy], batches, world))
    if world.is_first:
        show(work, both, {strategy: steps[2:] for strategy, steps in found.items()})
    dist.destroy_process_group()


def show(
    work: argparse.Namespace, both: dict[str, Contender], found: dict[str, list[tuple[float, float, float]]]
) -> None:
    """The table."""
    num_parameters = sum(p.numel() for p in both["ddp"].state.model.parameters())
    print(
        f"{work.model}, {num_parameters:,} parameters, {work.micro_batches} x {work.rows} x {work.block_tokens} tokens"
    )
    print(*notes(both["fsdp"].state.model), sep="\n")
    for strategy, steps in found.items():
        wall, cpu = (statistics.median(one[place] for one in steps) for place in (0, 1))
        kept = kept_bytes(both[strategy].state) / MIB
        print(f"{strategy:5} {wall:.3f} s a step, {cpu:.3f} s CPU, keeps {kept:,.1f} MiB")
    pairs = list(zip(found["fsdp"], found["ddp"], strict=True))
    wall, cpu = (statistics.median(sharded[place] / copied[place] for sharded, copied in pairs) for place in (0, 1))
    differ = max(abs(sharded[2] - copied[2]) for sharded, copied in pairs)
    print(f"fsdp / ddp: {wall:.2f} of the time, {cpu:.2f} of the CPU; losses differ by {differ:.1e} at most")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="transformer")
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--block-tokens", type=int, default=256)
    parser.add_argument("--rows", type=int, default=4, help="of a process's micro-batch")
    parser.add_argument("--micro-batches", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    with TemporaryDirectory() as place:
        arguments = (parser.parse_args(argv), str(Path(place) / "meet"))
        mp.start_processes(compare, arguments, nprocs=2, start_method="spawn")


if __name__ == "__main__":
    main()
