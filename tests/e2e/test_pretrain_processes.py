"""Pre-training on 1, 2 and 3 processes, without Ray, whose part in it is shown in test_pretrain_ray.py."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reforge.batches import prepare
from reforge.runs import PretrainJob, RunFolder
from reforge.tracking import read_metrics

pytestmark = pytest.mark.slow  # starts processes

MakeJob = Callable[..., PretrainJob]
Train = Callable[[PretrainJob, Path], RunFolder]


def losses(folder: RunFolder) -> list[float]:
    return [row["train/loss"] for row in read_metrics(folder.metrics)]


def test_the_same_global_batches_on_1_2_and_3_processes_and_after_a_change(
    tiny_job: MakeJob,
    deterministic: tuple[str, ...],
    prepared_folder: Path,
    train_without_ray: Train,
    on_3: RunFolder,
    assert_equal: Callable[[RunFolder, RunFolder], None],
) -> None:
    def run(*overrides: str) -> RunFolder:
        return train_without_ray(tiny_job(*deterministic, *overrides), prepared_folder)

    alone, on_2 = run("name=alone", "scale.num_workers=1"), run("name=on-2")
    run("name=on-2-then-3", "train.max_steps=8")
    on_2_then_3 = run("name=on-2-then-3", "scale.num_workers=3")
    run("name=on-3-in-two-parts", "scale.num_workers=3", "train.max_steps=8")
    # Three ranks: the order of their sums depends on how DDP lays out its buckets, which a resume must not change.
    assert_equal(run("name=on-3-in-two-parts", "scale.num_workers=3"), on_3)
    for folder in (on_2, on_3, on_2_then_3):
        np.testing.assert_allclose(losses(folder), losses(alone), rtol=1e-4, err_msg=folder.path.name)


def test_bucketed_data_gives_the_same_steps_and_figures_on_1_and_3_processes(
    tiny_job: MakeJob, deterministic: tuple[str, ...], train_without_ray: Train
) -> None:
    options = ("data.batches=bucketed", "data.block_tokens=64", "objective.kind=mlm_nsp", *deterministic)
    alone = tiny_job("name=bucketed-1", *options, "scale.num_workers=1")
    together = tiny_job("name=bucketed-3", *options, "scale.num_workers=3")
    prepared = prepare(alone.data, alone.tokenizer, alone.run.prepared_root, announce=lambda line: None)
    rows, other_rows = (
        list(read_metrics(train_without_ray(job, prepared.folder).metrics)) for job in (alone, together)
    )
    assert len(rows) == len(other_rows) == alone.train.max_steps
    for row, other in zip(rows, other_rows, strict=True):
        for name in row.keys() - {"train/tokens_per_second", "train/seconds"}:
            # Rounding may turn the guess between two that are nearly as likely.
            flips = 0.1 if "accuracy" in name else 0.0
            np.testing.assert_allclose(other[name], row[name], 1e-4, flips, err_msg=f"{name} of step {row['step']}")
