"""What a trial's actor does by itself; here without Ray."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from reforge.distributed.cluster import Resources
from reforge.distributed.crew import CrewShape
from reforge.distributed.trial_actor import TrialActor
from reforge.distributed.tune_command import load_search
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.search_results import keep_best
from reforge.runs.search_run import MICRO_BATCH, SearchRun
from reforge.runs.trial import TrialTask
from reforge.search.study import Study
from reforge.spec import load_source, validate

TESTS = Path(__file__).parents[1]
CPU = torch.device("cpu")
# The 16 rows of a step take half a GiB of activations at once, two rows a sixteenth of that.
SPACE = f"""
kind: tune
name: shrunk
extends: {TESTS / "tiny_finetune.yaml"}
metric: {{name: valid/loss, mode: min}}
model: {{ff_mult: 4096}}
train: {{max_epochs: 1, micro_batch_tokens: 512}}
on_oom: shrink_batch
space: {{optimizer.lr: [1.0e-3]}}
search: {{num_trials: 1}}
"""


@contextmanager
def at_most(more_bytes: int) -> Iterator[None]:
    """As long as the context lasts, the process gets only so much more memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def drive(run: SearchRun, task: TrialTask) -> None:
    """Train a trial to its end, as Ray Tune does."""
    shape = CrewShape(num_workers=1, cpus=1, gpus=0.0, cwd=str(Path.cwd()))
    actor: Any = TrialActor.__new__(TrialActor)  # Trainable's own __init__ looks for Ray
    actor.setup({"task": task, "shape": shape, "on_oom": run.options.on_oom, "max_failures": 0})
    is_over = False
    while not is_over:
        result = actor.step()
        is_over = run.judge(task.number, result["advance"], {MICRO_BATCH: float(result["micro_batch_tokens"])})
    actor.cleanup()


@pytest.mark.long
@pytest.mark.slow  # layers wide enough to run out of memory
@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_a_trial_that_runs_out_of_memory_takes_smaller_micro_batches(
    tmp_path: Path, reviews_file: Path, finetune_job: Callable[..., FinetuneJob]
) -> None:
    warm = finetune_job("name=warm", "train.max_epochs=1")
    finetune(warm, warm.folder, CPU)  # loads the libraries, which would not find room later
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    words = [f"data.train.path={reviews_file}", f"run.storage={tmp_path / 'runs'}"]
    search = load_search(tmp_path / "space.yaml", words, FinetuneJob, Resources(1, 0, "here"))
    options = search.options
    study = Study(options.name, search.space, options.search, options.metrics, options.study_storage)
    run = SearchRun(search, study)
    task = run.next_trial()
    assert task is not None
    with at_most(130 * 2**20):
        drive(run, task)
    [record] = study.trials
    assert record.outcome == "finished", record.why
    assert record.facts[MICRO_BATCH] in (32, 64, 128, 256), record.facts
    [best] = keep_best(run)
    job = validate(FinetuneJob, load_source(best.spec))
    assert job.train.micro_batch_tokens == record.facts[MICRO_BATCH]
    assert job.train.batch_size == 16
    assert finetune(job, job.folder, CPU).metrics["valid/loss"] == record.values[0]
