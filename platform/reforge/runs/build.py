"""From a job spec to the loop's parts; the one place that composes them."""

import os
import shutil
from pathlib import Path

import torch

from reforge.batches import Prepared
from reforge.loop import CorpusData, LoopState, World, resolve_precision, seed_everything
from reforge.loop.sharding import shard
from reforge.models import Backbone, BackboneOptions, Device
from reforge.objectives import Objective, ObjectiveOptions
from reforge.runs.job import PretrainJob
from reforge.spec import UserError
from reforge.tokenizers import Vocabulary


def resolve_model(job: PretrainJob, vocab_size: int, world: World) -> tuple[BackboneOptions, list[str]]:
    """The job's model with every `auto` decided for this world's devices, and lines that say why."""
    frame = job.objective.frame(vocab_size, job.data.block_tokens)
    bytes_per_value = 2 if resolve_precision(job.train.precision, world.device) == "bf16" else 4
    device = Device(world.device.type, memory_of_a_worker(world), bytes_per_value)
    return job.model.resolve(frame, job.micro_batch_tokens(world.size), device)


def build_model(
    model: BackboneOptions, objective: ObjectiveOptions, vocabulary: Vocabulary, block_tokens: int, seed: int
) -> Objective:
    """The objective's module around a fresh backbone; weights are a function of the seed."""
    seed_everything(seed, "initialise")
    return objective.build(model, vocabulary, block_tokens)


def build_state(
    job: PretrainJob, prepared: Prepared, device: torch.device, model: BackboneOptions | None = None
) -> LoopState:
    """The loop's state before the first step, on `device`; `model` is the job's with every `auto` decided.

    Where the job says so the state is sharded over the processes of the world.
    """
    vocabulary = Vocabulary.of(prepared.tokenizer)
    module = build_model(model or job.model, job.objective, vocabulary, job.data.block_tokens, job.train.seed)
    if job.train.compile == "on":
        compile_dense_parts(module)
    if job.scale.strategy == "fsdp":
        shard(module, World.current(device))  # before it is moved: a device need not hold it whole
    module.to(device)
    return LoopState(module, job.optimizer.build(module), job.train.seed, prepared.fingerprint)


def compile_dense_parts(model: Objective) -> None:
    """Have torch.compile run the backbones' dense parts, in place; names of parameters stay as they are."""
    if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        raise UserError("train.compile: on needs a C++ compiler, and there is none; install g++, or leave it at auto")
    for backbone in model.modules():
        if isinstance(backbone, Backbone):
            for part in backbone.dense_parts():
                part.compile()


def build_data(prepared: Prepared, eval_blocks: int | None = None) -> CorpusData:
    """The prepared shards as the loop takes them."""
    return CorpusData(prepared.train, prepared.valid, prepared.valid_tokens_per_byte, eval_blocks)


def memory_of_a_worker(world: World) -> int:
    """Bytes of the device that one worker has: the GPU's, or an equal share of this machine's."""
    if world.device.type == "cuda":
        return torch.cuda.get_device_properties(world.device).total_memory
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(installed, memory_limit()) // world.local_size


def memory_limit(file: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Bytes that the control group allows; beyond any machine where there is no limit or no control group."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # ValueError: "max"
        return 2**60
