"""Bucketed data under real Ray Train: the same batches, pairs and validation figures on 1 and 3 workers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from reforge.batches import prepare
from reforge.distributed.cluster import Resources
from reforge.distributed.train import train_on_ray
from reforge.runs import PretrainJob, RunFolder, pretrain
from reforge.tracking import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

OPTIONS = (
    "data.batches=bucketed",
    "data.block_tokens=64",
    "objective.kind=mlm_nsp",
    # Without hashing and dropout a step is a function of its global batch alone, up to rounding.
    "model.attention=exact",
    "model.ff_dropout=0.0",
    "optimizer.schedule.kind=constant",
)


def test_the_same_steps_on_1_and_3_workers(tiny_job: Callable[..., PretrainJob]) -> None:
    alone, on_3 = tiny_job("name=bucketed-1", *OPTIONS), tiny_job("name=bucketed-3", *OPTIONS, "scale.num_workers=3")
    prepared = prepare(alone.data, alone.tokenizer, alone.run.prepared_root, announce=lambda line: None)
    pretrain(alone, alone.folder, prepared.folder, torch.device("cpu"))
    train_on_ray(on_3, prepared.folder, Resources(4, 0, "the test's Ray"))
    rows, other_rows = (list(read_metrics(RunFolder(job.folder).metrics)) for job in (alone, on_3))
    assert len(rows) == len(other_rows) == alone.train.max_steps
    for row, other in zip(rows, other_rows, strict=True):
        for name in row.keys() - {"train/tokens_per_second", "time"}:
            flips = (
                0.1 if "accuracy" in name else 0.0
            )  # rounding may turn the guess between two that are nearly as likely
            np.testing.assert_allclose(other[name], row[name], 1e-4, flips, err_msg=f"{name} of step {row['step']}")
