"""Seeds and folds: single runs, and mean and spread over them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.members import Summary, finished, result_of, summarise
from reforge.spec import UserError

MakeJob = Callable[..., FinetuneJob]
QUICK = ("train.max_epochs=1", "model.depth=1")


def run_all(job: FinetuneJob) -> tuple[Summary, list[str]]:
    """What the command does, in this process: the summary, and which members had to be run."""
    results, run = {}, []
    for name, member in job.members():
        result = result_of(member)
        if result is None:
            run.append(name)
            result = finetune(member, member.folder, torch.device("cpu"))
        results[name] = result
    return summarise(job, results), run


@pytest.fixture(scope="module")
def seeds(finetune_job: MakeJob) -> FinetuneJob:
    """A job of two seeds that is finished."""
    job = finetune_job("name=seeds", *QUICK, "repeat={seeds: [1, 2]}")
    assert finished(job) is None
    run_all(job)
    return job


def test_the_summary_is_mean_and_sample_spread_of_the_single_runs(seeds: FinetuneJob) -> None:
    summary = finished(seeds)
    assert summary is not None
    singles = [json.loads((seeds.folder / "members" / f"seed-{n}" / "result.json").read_text()) for n in (1, 2)]
    for name in ("valid/accuracy", "test/accuracy", "test/loss"):
        values = [single["metrics"][name] for single in singles]
        assert summary.mean[name] == pytest.approx(mean(values))
        assert summary.spread[name] == pytest.approx(stdev(values))
    assert singles[0]["metrics"]["test/loss"] != singles[1]["metrics"]["test/loss"]
    stored = json.loads((seeds.folder / "result.json").read_text())
    assert (stored["mean"], stored["spread"]) == (summary.mean, summary.spread)
    scalars = EventAccumulator(str(seeds.folder / "tensorboard")).Reload()
    [value] = [event.value for event in scalars.Scalars("mean/test/loss")]
    assert value == pytest.approx(summary.mean["test/loss"])


def test_a_member_is_the_run_that_its_seed_gives_alone(seeds: FinetuneJob, finetune_job: MakeJob) -> None:
    job = finetune_job("name=alone", *QUICK, "train.seed=2")
    alone = finetune(job, job.folder, torch.device("cpu"))
    member = result_of(dict(seeds.members())["seed-2"])
    assert member is not None
    assert alone.metrics == member.metrics
    weights = [folder / "model.safetensors" for folder in (job.folder, seeds.folder / "members" / "seed-2")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_seed_more_runs_alone_and_a_seed_less_is_left_out(seeds: FinetuneJob, finetune_job: MakeJob) -> None:
    copy = finetune_job("name=more-seeds", *QUICK, "repeat={seeds: [1, 2]}")
    shutil.copytree(seeds.folder, copy.folder)
    more = finetune_job("name=more-seeds", *QUICK, "repeat={seeds: [1, 2, 3]}")
    assert finished(more) is None
    summary, run = run_all(more)
    assert run == ["seed-3"]
    assert list(summary.members) == ["seed-1", "seed-2", "seed-3"]
    two, both = finished(copy), finished(seeds)
    assert two is not None
    assert both is not None
    assert (two.mean, two.spread) == (both.mean, both.spread)


def test_another_spec_under_the_same_name_is_refused(seeds: FinetuneJob, finetune_job: MakeJob) -> None:
    with pytest.raises(UserError, match=r"holds a run of another spec:\n  optimizer\.lr: was 0\.003, now 0\.1"):
        finished(finetune_job("name=seeds", *QUICK, "optimizer.lr=0.1", "repeat={seeds: [1, 2]}"))


def test_one_run_and_several_do_not_share_a_folder(seeds: FinetuneJob, finetune_job: MakeJob) -> None:
    with pytest.raises(UserError, match=r"holds several runs \(repeat, cv\), and this job is a single run; choose"):
        finished(finetune_job("name=seeds", *QUICK))
    single = finetune_job("name=single", *QUICK)
    (single.folder / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds a single run, and this job is several runs"):
        finished(finetune_job("name=single", *QUICK, "repeat={seeds: [1, 2]}"))


@pytest.mark.slow  # three runs
def test_folds_are_scored_once_each(finetune_job: MakeJob) -> None:
    job = finetune_job("name=folds", *QUICK, "data.test_fraction=0", "cv={folds: 3}")
    summary, run = run_all(job)
    assert run == ["fold-1", "fold-2", "fold-3"]
    scored = [
        json.loads(line)["key"]
        for name in run
        for line in (job.folder / "members" / name / "predictions.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(scored) == len(set(scored)) == 48
    values = [result.metrics["test/accuracy"] for result in summary.members.values()]
    assert summary.mean["test/accuracy"] == pytest.approx(mean(values))
    with pytest.raises(UserError, match="holds a run of another spec"):
        finished(finetune_job("name=folds", *QUICK, "data.test_fraction=0", "cv={folds: 4}"))


def test_the_spread_of_one_run_is_no_number(finetune_job: MakeJob, seeds: FinetuneJob, tmp_path: Path) -> None:
    job = finetune_job("name=one-seed", *QUICK, "repeat={seeds: [1]}", f"run.storage={tmp_path}")
    shutil.copytree(seeds.folder / "members" / "seed-1", job.folder / "members" / "seed-1")
    summary, run = run_all(job)
    assert run == []
    assert all(value != value for value in summary.spread.values())
    assert set(json.loads((job.folder / "result.json").read_text())["spread"].values()) == {None}
