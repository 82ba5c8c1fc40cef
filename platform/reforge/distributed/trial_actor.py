"""A trial under Ray Tune: a class Trainable, one actor for many trials."""

import shutil
from dataclasses import replace
from typing import Any, Literal

from ray.tune import Trainable

from reforge.distributed.crew import Crew, CrewShape, hire
from reforge.runs.trial import TrialTask, smaller_batches
from reforge.runs.trial_process import Advance, Trouble

OnOutOfMemory = Literal["prune", "shrink_batch", "fail"]


class TrialActor(Trainable):  # type: ignore[misc]
    """Trains the task in its `config`; Ray Tune hands it the next one by `reset_config`.

    config: {"task": TrialTask, "shape": CrewShape, "on_oom": ..., "max_failures": ...}
    Each result is {"advance": TrialReport | Trouble, "micro_batch_tokens": ...}.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Called once, in the new actor."""
        shape: CrewShape = config["shape"]
        self._crew: Crew = hire(shape)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another trial, with everything warm."""
        self._task: TrialTask = new_config["task"]
        self._on_oom: OnOutOfMemory = new_config["on_oom"]
        self._failures_left: int = new_config["max_failures"]
        self._crew.begin(self._task)
        return True

    def step(self) -> dict[str, Any]:
        """Train until there is something to judge."""
        return {"advance": self._advance(), "micro_batch_tokens": self._task.job.train.micro_batch_tokens}

    def _advance(self) -> Advance:
        while True:
            advance = self._crew.advance()
            if not isinstance(advance, Trouble):
                return advance
            if advance.kind == "died" and self._failures_left:
                self._failures_left -= 1
                self._crew.begin(self._task)  # goes on from the last checkpoint
            elif advance.kind == "out_of_memory" and self._on_oom == "shrink_batch":
                job = smaller_batches(self._task.job)
                if job is None:
                    return advance
                # From the first step on: what is reported must be what best.yaml trains.
                shutil.rmtree(job.folder, ignore_errors=True)
                self._task = replace(self._task, job=job)
                self._crew.begin(self._task)
            else:
                return advance

    def cleanup(self) -> None:
        """Called at the end of the actor."""
        self._crew.leave()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Ours lie in the trial's folder; Ray Tune has none to keep."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """A trial goes on from its folder."""
