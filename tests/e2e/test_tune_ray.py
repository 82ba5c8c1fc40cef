"""Searches under real Ray: trials of one process and of two, what they leave behind, and what happens when one dies."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from reforge.distributed.cluster import find_resources
from reforge.distributed.crew import CrewShape
from reforge.distributed.tune import run_search, trial_shape
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.search_run import RunningTrial, SearchRun, Watch
from reforge.runs.trial import TrialReport, TrialTask
from reforge.runs.trial_process import Trouble
from reforge.runs.tune_job import TuneOptions, TuneSearch
from reforge.search import compile_search
from reforge.search.study import Study
from reforge.spec import load_source

pytestmark = pytest.mark.slow  # starts Ray

ROOT = Path(__file__).parents[2]
MARK = "REFORGE_TEST_TUNE"
# The first trial alone learns, and only the best of a hundred goes on: all others are stopped at their first report.
SPACE = f"""
kind: tune
name: search
extends: {ROOT / "tests" / "tiny_finetune.yaml"}
metric: {{name: valid/loss, mode: min}}
model: {{dropout: 0.0}}
train: {{batch_size: 4}}
head: {{kind: linear, dropout: 0.0}}
space:
  optimizer.lr: {{low: 1.0e-9, high: 1.0e-1, log: true}}
scheduler: {{kind: asha, grace_period: 1, reduction_factor: 100, max_reports: 3}}
"""
Overrides = Callable[[int], list[str]]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """The space, in a folder of its own."""
    file = tmp_path / "space.yaml"
    file.write_text(SPACE, encoding="utf-8")
    return file


@pytest.fixture
def one_learns(tmp_path: Path, finetune_overrides: list[str]) -> Overrides:
    """A function from a number of trials to the words that make the space run so many."""

    def words(num_trials: int) -> list[str]:
        rates = [1e-2, *(1e-6 / 1.1**number for number in range(num_trials - 1))]
        points = ", ".join(f"{{optimizer.lr: {rate:.3e}}}" for rate in rates)
        counts = (f"search.num_trials={num_trials}", f"search.points_to_evaluate=[{points}]")
        return [*finetune_overrides, f"run.storage={tmp_path / 'runs'}", *counts]

    return words


def marked(mark: str) -> list[str]:
    """The command lines of the processes that a marked one has started, directly or not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def python(*words: str, mark: str, **environment: str) -> "subprocess.Popen[str]":
    whole = {**os.environ, MARK: mark, "PYTHONPATH": str(ROOT / "platform"), **environment}
    return subprocess.Popen(
        [sys.executable, *words], env=whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("num_workers", "num_trials", "with_dashboard"),
    [
        (1, 56, "no"),
        pytest.param(2, 12, "no", marks=pytest.mark.long),
        pytest.param(1, 56, "yes", marks=pytest.mark.long),
    ],
)
def test_trials_that_are_stopped_early_leave_nothing_behind(
    space: Path, one_learns: Overrides, num_workers: int, num_trials: int, with_dashboard: str
) -> None:
    if with_dashboard == "yes" and importlib.util.find_spec("aiohttp_cors") is None:
        pytest.skip("the dashboard is not installed: ray[default]")
    script = str(Path(__file__).with_name("early_stopped.py"))
    mark = f"{os.getpid()}-{num_workers}-{with_dashboard}"
    process = python(script, str(space), str(num_workers), with_dashboard, *one_learns(num_trials), mark=mark)
    output, told = process.communicate()
    assert process.returncode == 0, told
    found = json.loads(output.splitlines()[-1])
    assert found.pop("trials") == num_trials
    # Which of the first are judged before there is something to compare them with is a matter of time.
    assert found.pop("pruned") >= num_trials - 6
    # Two warm actors from beginning to end; or one, with its two workers.
    assert found.pop("started") == (2 if num_workers == 1 else 3)
    assert found == {"groups": [], "actors": [], "processes": []}
    assert wait_for(lambda: not marked(mark), 60), marked(mark)


class Killer(Watch):
    """Kills one of two workers after the first report of trial 0; notes who trained."""

    def __init__(self) -> None:
        self.trained_by: dict[int, set[int]] = {}
        self.killed = 0

    def reported(self, trial: RunningTrial) -> None:
        pids = set(worker_processes())
        self.trained_by[trial.suggestion.number] = pids
        if not self.killed and pids:
            self.killed = max(pids)
            os.kill(self.killed, signal.SIGKILL)


def worker_processes() -> Iterator[int]:
    """The workers of a crew, below this process."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::_Worker") and _is_ours(int(entry.name)):
                yield int(entry.name)
        except OSError:
            continue


def _is_ours(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


@pytest.mark.usefixtures("ray_session")
def test_two_workers_reach_what_one_does_though_one_of_them_is_killed(space: Path, one_learns: Overrides) -> None:
    reached: list[list[tuple[str, list[float]]]] = []
    killer = Killer()
    for num_workers in (1, 2):
        resources = find_resources()
        words = [*one_learns(4), f"resources.num_workers={num_workers}", f"name=on-{num_workers}"]
        loaded: TuneSearch = compile_search(load_source(space, words, dotted=("space",)), FinetuneJob, TuneOptions)
        options = loaded.options
        study = Study(
            options.name,
            loaded.space,
            options.search,
            options.metrics,
            options.study_storage,
            scheduler=options.scheduler,
        )
        run = SearchRun(loaded, study, watch=killer)
        run_search(run, trial_shape(options.resources, resources), 1, lambda: None)
        records = run.study.trials
        reached.append([(record.outcome, list(record.intermediate.values())) for record in records])
    single, double = reached
    assert [outcome for outcome, _ in single] == [outcome for outcome, _ in double] == ["finished", *["pruned"] * 3]
    for (_, curve), (_, other) in zip(single, double, strict=True):
        assert curve == pytest.approx(other, abs=1e-5)
    assert killer.killed
    first, *others = [killer.trained_by[number] for number in range(4)]
    assert killer.killed not in first  # what its last report came from is a new group
    assert first == others[0] == others[1] == others[2]
    assert len(first) == 2


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
def test_a_worker_that_waits_for_one_in_trouble_does_not_wait_for_ever(
    finetune_job: Callable[..., FinetuneJob], tmp_path: Path
) -> None:
    @ray.remote(num_cpus=0)
    class Trial:
        """Stands for the actor of a trial, and can set one of its workers to something impossible."""

        def __init__(self, shape: CrewShape) -> None:
            from reforge.distributed import crew

            crew._GRACE_SECONDS = 1.0
            self.crew = crew.Together(shape)

        def begin(self, task: TrialTask) -> None:
            self.crew.begin(task)

        def advance(self) -> Any:
            return self.crew.advance()

        def mislead(self, task: TrialTask) -> None:
            ray.get(self.crew._workers[1].begin.remote(task))

        def leave(self) -> None:
            self.crew.leave()

    job = finetune_job("name=one-in-trouble", f"run.storage={tmp_path}", "scale.num_workers=2")
    task = TrialTask(0, job, tmp_path / "curves", ())
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    ray.get(group.ready())
    place = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
    trial: Any = Trial.options(scheduling_strategy=place).remote(CrewShape(2, 1, 0, str(Path.cwd())))  # type: ignore[attr-defined]
    ray.get(trial.begin.remote(task))
    first = ray.get(trial.advance.remote())
    assert isinstance(first, TrialReport)
    assert [report.number for report in first.history] == [1]

    ray.get(trial.mislead.remote(TrialTask(0, None, tmp_path, ())))  # type: ignore[arg-type]
    trouble = ray.get(trial.advance.remote(), timeout=300)
    assert isinstance(trouble, Trouble)
    assert trouble.kind == "raised"
    assert "AttributeError" in trouble.traceback

    ray.get(trial.begin.remote(task))
    again = ray.get(trial.advance.remote(), timeout=300)
    assert isinstance(again, TrialReport)
    assert again.history == first.history
    second = ray.get(trial.advance.remote(), timeout=300)
    assert isinstance(second, TrialReport)
    assert [report.number for report in second.history] == [1, 2]
    ray.get(trial.leave.remote())
    ray.kill(trial)
    remove_placement_group(group)


@pytest.mark.long
def test_an_interrupted_search_leaves_no_process_and_goes_on_in_a_cluster_that_is_there(
    space: Path, one_learns: Overrides, ray_session: None
) -> None:
    mark, runs = f"{os.getpid()}-interrupted", space.parent / "runs"
    words = (str(ROOT / "jobs" / "tune_finetune.py"), str(space), *one_learns(6))
    first = python(*words, mark=mark)
    reported = wait_for(lambda: any(runs.glob("search/trials/*/metrics.jsonl")) or first.poll() is not None, 300)
    assert reported
    assert first.poll() is None, first.communicate()
    first.send_signal(signal.SIGINT)
    _, told = first.communicate()
    assert first.returncode == 130, told
    assert "interrupted; the same command goes on" in told
    assert "Traceback" not in told
    assert wait_for(lambda: not marked(mark), 60), marked(mark)

    address = ray.get_runtime_context().gcs_address
    second = python(*words, mark=mark, RAY_ADDRESS=address)
    output, told = second.communicate()
    assert second.returncode == 0, told
    # How many are stopped early is a matter of time: the cluster has room for more trials at once.
    assert "all 6 trials are handed out" in output
    assert "failed" not in output
    assert ray.cluster_resources()["CPU"] == 4
    assert wait_for(lambda: ray.available_resources().get("CPU") == 4, 20)
