"""A population under real Ray: turns on warm actors, the same trials as without Ray, and nothing left behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import actors
from ray.util import placement_group_table

from reforge.distributed.search import open_study
from reforge.models import Device
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.population_run import PopulationRun
from reforge.runs.trial_memory import TrialMemory
from reforge.runs.trial_process import TrialProcess
from reforge.runs.tune_job import TuneOptions, TuneSearch, tune_problems
from reforge.search import compile_search
from reforge.search.records import TrialRecord
from reforge.spec import load_source

pytestmark = [pytest.mark.slow, pytest.mark.long]  # starts Ray

ROOT = Path(__file__).parents[2]
SPACE = f"""
kind: tune
name: population
extends: {ROOT / "tests" / "tiny_finetune.yaml"}
metric: {{name: valid/loss, mode: min, scope: last}}
space:
  optimizer.lr: {{low: 1.0e-7, high: 1.0e-1, log: true}}
  model.dropout: [0.0, 0.1, 0.2]
scheduler: {{kind: pbt}}
search: {{num_trials: 4, max_concurrent: 2, sampler: {{kind: random, seed: 1}}}}
"""
PLENTY = TrialMemory(Device("cpu", 2**40, 4), limit_bytes=2**40)

Words = Callable[[str], list[str]]


@pytest.fixture
def words(tmp_path: Path, finetune_overrides: list[str]) -> Words:
    """What comes after the command, by the name of the search's folder."""
    file = tmp_path / "space.yaml"
    file.write_text(SPACE, encoding="utf-8")
    return lambda name: [str(file), *finetune_overrides, f"run.storage={tmp_path / 'runs'}", f"name={name}"]


def loaded(words: list[str]) -> TuneSearch:
    source = load_source(Path(words[0]), words[1:], dotted=("space",))
    search: TuneSearch = compile_search(source, FinetuneJob, TuneOptions, rules=tune_problems)
    return search


def without_ray(search: TuneSearch) -> tuple[TrialRecord, ...]:
    """What becomes of the trials, one at a time."""
    study = open_study(search, PLENTY)
    run, process = PopulationRun(search, study), TrialProcess(str(Path.cwd()), 1, 0.0)
    while (task := run.next_trial()) is not None:
        process.begin(task)
        while not run.judge(task.number, process.advance()):
            pass
    process.end()
    return study.trials


def told(records: tuple[TrialRecord, ...]) -> list[Any]:
    return [(r.outcome, r.values, r.assignment, r.intermediate, r.lineage) for r in records]


def left() -> dict[str, Any]:
    return {
        "groups": [group["name"] for group in placement_group_table().values() if group["state"] != "REMOVED"],
        "actors": [actor["ActorClassName"] for actor in actors().values() if actor["State"] != "DEAD"],
    }


@pytest.mark.usefixtures("ray_session")
def test_a_population_on_two_actors(words: Words) -> None:
    search, before = loaded(words("on-ray")), left()
    command = [sys.executable, str(ROOT / "jobs" / "tune_finetune.py"), *words("on-ray")]
    environment = {"PYTHONPATH": str(ROOT / "platform"), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    process = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "4 finished" in process.stdout
    study = open_study(search, PLENTY)
    records = study.trials
    assert 1 <= sum(len(record.lineage) for record in records) <= 2, "one in each of two rounds"
    assert told(records) == told(without_ray(loaded(words("without-ray"))))

    folder = search.options.folder
    for record in records:
        file = folder / "trials" / f"{record.number:04d}" / "lineage.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
        assert [(line["report"], line["donor"]) for line in lines] == [(t.report, t.donor) for t in record.lineage]
    (best,) = study.best
    head = (folder / "best.yaml").read_text(encoding="utf-8").split("kind:")[0]
    assert ("this job alone does not train it again" in head) == bool(best.lineage)
    assert (folder / "trials" / f"{best.number:04d}" / "model.safetensors").is_file()
    assert not list(folder.glob("trials/*/rounds"))
    assert len(list(folder.glob("trials/*/checkpoints"))) == 1

    deadline = time.monotonic() + 20
    while left() != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left() == before
    assert wait_for_cpus()


def wait_for_cpus(seconds: float = 20.0) -> bool:
    """All of them are free again."""
    deadline = time.monotonic() + seconds
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
