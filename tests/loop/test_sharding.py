"""Models in slices on two real processes: they learn what whole ones learn, and each process holds half of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from reforge.batches import open_prepared, prepare
from reforge.loop import LoopState, World, named_tensors, train
from reforge.loop.sharding import gather, is_sharded, notes, slice_of
from reforge.runs import PretrainJob
from reforge.runs.build import build_data, build_state

CPU = torch.device("cpu")
# Without hashing and dropout a step is a function of its global batch alone, up to rounding.
EXACT = ("optimizer.schedule.kind=constant", "train.max_steps=4", "train.eval_every_steps=4", "name=sharded")
REFORMER = ("model.attention=exact", "model.ff_dropout=0.0")
KEPT = (*REFORMER, "model.memory=keep")
TRANSFORMER = ("model={kind: transformer, d_model: 32, depth: 2, num_heads: 2}",)
# What the processes draw by themselves (dropped layers, ELECTRA's replacements) is another draw on one process.
DRAWN = {"dropped layers", "electra", "electra, layers apart"}
CASES = {
    "reversible": REFORMER,
    "kept": KEPT,
    "transformer": TRANSFORMER,
    "causal": (*TRANSFORMER, "objective.kind=causal", "model.memory=checkpoint"),
    "electra": (*REFORMER, "objective.kind=electra"),
    "tied layers": (*REFORMER, "model.weight_tie=true"),
    "dropped layers": (*REFORMER, "model.layer_dropout=0.5"),
    "electra, layers apart": (*TRANSFORMER, "objective.kind=electra"),
    "recomputed": (*REFORMER, "model.memory=checkpoint"),
    "tiny tensors": (*KEPT, "model.use_rezero=true", "model.num_mem_kv=3"),
    "memories": (*KEPT, "model.pkm_layers=[2]"),
    "pairs": (*REFORMER, "data.batches=bucketed", "objective.kind=mlm_nsp", "data.block_tokens=64"),
    "untied output": (*KEPT, "objective.tie_embeddings=false", "optimizer.layer_decay=0.7"),
}
BY_LAYER = {"kept", "transformer", "causal", "electra, layers apart", "recomputed", "tiny tensors", "memories"}
BY_LAYER |= {"untied output"}
LONG = {"pairs", "electra, layers apart", "recomputed", "tiny tensors", "memories", "untied output"}


def held_here(state: LoopState) -> tuple[int, int]:
    """How many values of the optimizer's averages this process holds, and how many there are."""
    averages = [
        value for values in state.optimizer.state.values() for key, value in values.items() if key.startswith("exp")
    ]
    return sum(slice_of(value).numel() for value in averages), sum(value.numel() for value in averages)


def learn(job: PretrainJob) -> dict[str, Any]:
    """What `job` comes to, as this process of possibly several sees it; its corpus is prepared."""
    world, folder = World.current(CPU), find_prepared(job)
    prepared = open_prepared(folder, job.data)
    state = build_state(job, prepared, CPU)
    reports = list(train(state, build_data(prepared, 5), job.train, job.optimizer, world))
    return {
        "losses": [report.loss for report in reports],
        "norms": [report.grad_norm for report in reports],
        "valid": reports[-1].valid,
        "weights": gather(named_tensors(state.model), world),
        "held": held_here(state),
        "notes": notes(state.model),
        "sharded": is_sharded(state.model),
    }


def find_prepared(job: PretrainJob) -> Path:
    """The job's corpus; prepared now where it is not yet."""
    return prepare(job.data, job.tokenizer, job.run.prepared_root, announce=lambda line: None).folder


def work(rank: int, jobs: dict[str, list[PretrainJob]], place: Path) -> None:
    """Train all jobs as one of two processes; leaves what came of them in `place`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    found = {name: [learn(job) for job in pair] for name, pair in jobs.items()}
    torch.save(found, place / f"rank-{rank}.pt")
    dist.destroy_process_group()


def compare(names: set[str], tiny_job: Callable[..., PretrainJob], place: Path) -> None:
    """Train the cases in slices and whole, on two processes and on one, and compare what comes of it."""
    jobs = {
        name: [tiny_job(*EXACT, *CASES[name], f"scale.strategy={strategy}") for strategy in ("ddp", "fsdp")]
        for name in sorted(names)
    }
    for pair in jobs.values():
        find_prepared(pair[0])  # before two processes would
    mp.start_processes(work, (jobs, place), nprocs=2, start_method="forkserver")
    first, second = (torch.load(place / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1))
    for name, (copied, sharded) in first.items():
        assert sharded["sharded"]
        assert not copied["sharded"]
        for figures in ("losses", "norms"):
            torch.testing.assert_close(sharded[figures], copied[figures], rtol=1e-5, atol=1e-5, msg=name)
        assert second[name][1]["losses"] == sharded["losses"]
        assert second[name][1]["valid"] == sharded["valid"]
        torch.testing.assert_close(sharded["valid"], copied["valid"], rtol=1e-5, atol=1e-5, msg=name)
        torch.testing.assert_close(sharded["weights"], copied["weights"], rtol=1e-4, atol=1e-4, msg=name)
        if name not in DRAWN:
            alone = learn(jobs[name][1])  # fsdp of one process is plain training
            assert not alone["sharded"]
            torch.testing.assert_close(sharded["losses"], alone["losses"], rtol=1e-5, atol=1e-5, msg=name)
        held, everything = sharded["held"]
        assert copied["held"] == (everything, everything)
        assert held + second[name][1]["held"][0] == everything
        assert abs(held / everything - 0.5) < 0.02  # tensors with an odd number of rows
        assert ("ZeRO-3" in sharded["notes"][0]) == (name in BY_LAYER)


@pytest.mark.slow  # starts processes
def test_slices_learn_what_whole_models_learn(tiny_job: Callable[..., PretrainJob], tmp_path: Path) -> None:
    compare(CASES.keys() - LONG, tiny_job, tmp_path)


@pytest.mark.long  # the other ways to run layers
def test_slices_of_other_models_learn_the_same(tiny_job: Callable[..., PretrainJob], tmp_path: Path) -> None:
    compare(LONG, tiny_job, tmp_path)
