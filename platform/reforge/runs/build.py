"""From a job spec to the loop's parts; the one place that composes them."""

import torch

from reforge.batches import Prepared
from reforge.loop import LoopState, TrainData, seed_everything
from reforge.objectives import Objective
from reforge.runs.job import PretrainJob


def build_model(job: PretrainJob, vocab_size: int) -> Objective:
    """The objective's module around a fresh backbone; weights are a function of train.seed."""
    seed_everything(job.train.seed, "initialise")
    backbone = job.model.build(vocab_size, job.data.block_tokens)
    return job.objective.build(backbone, vocab_size)


def build_state(job: PretrainJob, prepared: Prepared, device: torch.device) -> LoopState:
    """The loop's state before the first step, on `device`."""
    model = build_model(job, prepared.tokenizer.get_vocab_size()).to(device)
    return LoopState(model, job.optimizer.build(model), job.train.seed, prepared.fingerprint)


def build_data(prepared: Prepared) -> TrainData:
    """The prepared shards as the loop takes them."""
    return TrainData(prepared.train, prepared.valid, prepared.valid_tokens_per_byte)
