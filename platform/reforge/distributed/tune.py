"""A search on Ray Tune: its trials as warm actors, drawn and judged by our own study.

SearchRun --next_trial--> Ray Tune: placement groups, actors --TrialActor.step--> judge

What Ray Tune keeps of the search is thrown away: the study has everything, and the trials' folders.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, PlacementGroupFactory, Stopper
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from reforge.distributed.cluster import Resources
from reforge.distributed.crew import CrewShape, bundles
from reforge.distributed.stopping import Asking, stoppable
from reforge.distributed.trial_actor import TrialActor
from reforge.runs.search_run import MICRO_BATCH, SearchRun
from reforge.runs.tune_job import ResourceOptions

# Ray Tune's own logs, prints, checks and working directory, none of which a search of ours has a use for.
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a reset would leave the directory that the spec's paths are relative to
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end trials where they are
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
}
_LOOK_EVERY_SECONDS = 0.5


def trial_shape(options: ResourceOptions, resources: Resources) -> CrewShape:
    """What one trial takes of these resources."""
    gpus = (1.0 if resources.num_gpus else 0.0) if options.gpus == "auto" else options.gpus
    return CrewShape(options.num_workers, options.cpus, gpus, str(Path.cwd()))


def trials_at_once(shape: CrewShape, resources: Resources) -> int:
    """How many trials these resources have room for."""
    by_cpu = resources.num_cpus // (shape.num_workers * shape.cpus)
    if not shape.gpus:
        return by_cpu
    per_gpu = int(1 / shape.gpus) if shape.gpus < 1 else 0
    by_gpu = resources.num_gpus * per_gpu if per_gpu else int(resources.num_gpus // shape.gpus)
    return min(by_cpu, by_gpu // shape.num_workers)


def run_search(run: SearchRun, shape: CrewShape, at_once: int, look: Callable[[], None]) -> None:
    """Train trials until the search is at its end.

    look: called now and then, and after each report
    Raises what stopped the search: a UserError, or a fault of ours.
    """
    # Read by Ray Tune when it is called, in this process and in the trials' actors.
    os.environ.update(_ENVIRONMENT)
    bridge = _Bridge(run, shape, look)
    with tempfile.TemporaryDirectory(prefix="reforge-tune-") as notes, stoppable(lambda: run.folders) as asking:
        bridge.asking = asking
        trainable: Any = tune.with_resources(TrialActor, PlacementGroupFactory(bundles(shape)))
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Ask(bridge),
                scheduler=_Tell(bridge),
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=notes,
                stop=_Stop(bridge),
                callbacks=[_Look(bridge)],
                failure_config=tune.FailureConfig(max_failures=run.options.resources.max_failures),
                verbose=0,
            ),
        ).fit()
    if bridge.error is not None:
        raise bridge.error
    if bridge.is_stopping:
        raise KeyboardInterrupt


class _Bridge:
    """Between Ray Tune's names of trials and ours; keeps the first error, which ends the search."""

    def __init__(self, run: SearchRun, shape: CrewShape, look: Callable[[], None]) -> None:
        self.run, self.shape, self._look = run, shape, look
        self.numbers: dict[str, int] = {}
        self.error: BaseException | None = None
        self.asking: Asking | None = None
        self._looked = 0.0

    @property
    def is_stopping(self) -> bool:
        """Whether the trials were asked to stop."""
        return self.asking is not None and self.asking.has_asked

    def ask(self, trial_id: str) -> Any:
        task = None
        if self.error is None and not self.is_stopping:
            task = self._guarded(self.run.next_trial)
        if task is None:
            is_waiting = self.error is None and not self.is_stopping and self.run.is_waiting
            return None if is_waiting else Searcher.FINISHED
        self.numbers[trial_id] = task.number
        options = self.run.options
        max_failures = options.resources.max_failures
        return {"task": task, "shape": self.shape, "on_oom": options.on_oom, "max_failures": max_failures}

    def tell(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial is at its end."""
        number, facts = self.numbers[trial_id], {MICRO_BATCH: float(result["micro_batch_tokens"])}
        is_over = self._guarded(lambda: self.run.judge(number, result["advance"], facts))
        self.look(now=True)
        return is_over is not False

    def died(self, trial_id: str) -> None:
        """The trial's actor has died as often as it may."""
        self._guarded(lambda: self.run.died(self.numbers[trial_id], "its process died; see Ray's logs"))

    def look(self, now: bool = False) -> None:
        if now or time.monotonic() - self._looked >= _LOOK_EVERY_SECONDS:
            self._looked = time.monotonic()
            if self.asking is not None and self.is_stopping:
                self.asking.ask()  # also those that had no folder yet
            self._guarded(self._look)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Ray Tune takes what is raised in its calls for the failure of a trial: kept until it has ended."""
        try:
            return work()
        except Exception as error:
            self.error = self.error or error
            return None


class _Ask(Searcher):  # type: ignore[misc]
    """Ray Tune's questions."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__(metric=None, mode=None)
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return self._bridge.ask(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if error:
            self._bridge.died(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """The study has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """The study has everything."""


class _Tell(FIFOScheduler):  # type: ignore[misc]
    """Ray Tune's results; every verdict is given here, since it sees every result."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        is_over = self._bridge.tell(trial.trial_id, result)
        return str(TrialScheduler.STOP if is_over else TrialScheduler.CONTINUE)


class _Stop(Stopper):  # type: ignore[misc]
    """An error ends the trials that still run; the next start goes on with them."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._bridge.error is not None


class _Look(Callback):  # type: ignore[misc]
    """Ray Tune's heartbeat."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bridge.look()
