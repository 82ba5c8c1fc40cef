"""A search as its one driver runs it: tasks out, reports in, everything told to the study. No Ray here.

study --Suggestion--> TrialTask --> whoever trains it --TrialReport | Trouble--> judge --> study
                                                                                     '--> goes on, or is at its end
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import ScaleOptions
from reforge.runs.trial import TrialJob, TrialReport, TrialTask
from reforge.runs.trial_process import Advance, Trouble
from reforge.runs.tune_job import TuneSearch
from reforge.search.stopping import Reached, Stop, stop
from reforge.search.study import Study, Suggestion
from reforge.search.validations import Validation, value_of

TRIALS = "trials"

SECONDS_TRAINED = "seconds_trained"
# Facts that a trial's job is made from again.
MICRO_BATCH = "micro_batch_tokens"
STEPS = "steps"  # that it trained
BEST_STEP = "best_step"  # at which the first metric was best
ENDED_EARLY = "ended_early"  # 1 where a rule of the search ended it


@dataclass
class RunningTrial:
    """A trial that has been handed out and has not ended.

    history: what it has reached, as far as it is known here
    told: the newest report that the study knows
    """

    suggestion: Suggestion
    task: TrialTask
    history: tuple[Validation, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    told: int = 0


class Watch:
    """Hears what happens in a search; does nothing."""

    def began(self, trial: RunningTrial) -> None:
        """A trial was handed out."""

    def reported(self, trial: RunningTrial) -> None:
        """A trial has reached something."""

    def ended(self, number: int) -> None:
        """The study knows what became of a trial, or of a draw that was handed out to be spent."""


class SearchRun:
    """Hands out the trials of a search and judges them; `running` are those that are out.

    prepare: gives the folder of the prepared corpus of a job
    watch: hears of every trial that begins, reports and ends
    """

    def __init__(
        self,
        search: TuneSearch,
        study: Study,
        prepare: Callable[[TrialJob], Path | None] = lambda job: None,
        watch: "Watch | None" = None,
    ) -> None:
        self.search, self.study = search, study
        self.options = search.options
        self.running: dict[int, RunningTrial] = {}
        self._prepare, self._watch = prepare, watch or Watch()

    def next_trial(self) -> TrialTask | None:
        """The next trial to train; None at the end of the search, which `study.ended` gives the reason of."""
        while (suggestion := self.study.ask()) is not None:
            if suggestion.action != "run":
                self._watch.ended(suggestion.number)
                continue
            task = self._task(suggestion)
            known = self._known(suggestion)
            trial = RunningTrial(suggestion, task, told=max(known, default=0))
            if known and (why := self.study.should_prune(suggestion.number)):
                # Its driver died between the report and the verdict.
                self.study.prune(suggestion.number, why)
                self._ended(trial)
                continue
            self.running[suggestion.number] = trial
            self._watch.began(trial)
            return task
        return None

    def judge(self, number: int, advance: Advance, measured: Mapping[str, float] | None = None) -> bool:
        """Tell the study what a trial has come to; whether the trial is at its end.

        measured: facts beside those of the report
        """
        trial = self.running[number]
        if isinstance(advance, Trouble):
            self._trouble(trial, advance)
            return True
        trial.history, trial.facts = advance.history, {**trial.facts, **advance.facts, **(measured or {})}
        trial.facts = {**trial.facts, **self._progress(trial)}
        for validation in trial.history[trial.told :]:
            self.study.report(number, validation.number, self._values(trial, validation.number))
            trial.told = validation.number
        verdict = self._verdict(trial, advance)
        if verdict is not None and verdict.outcome == "finished" and not advance.is_last:
            trial.facts = {**trial.facts, ENDED_EARLY: 1.0}
        self.study.measured(number, trial.facts)
        self._watch.reported(trial)
        if verdict is not None:
            self._conclude(trial, verdict)
        return verdict is not None

    def died(self, number: int, why: str) -> None:
        """A trial's process died as often as it may."""
        if number in self.running:
            self._trouble(self.running[number], Trouble("died", why))

    def job_of(self, assignment: Mapping[str, Any], number: int) -> TrialJob:
        """The job of a trial: kept in the search's folder, on the search's resources, judged by its metric."""
        job: TrialJob = self.search.job(assignment)
        resources = self.options.resources
        changes: dict[str, Any] = {
            "name": f"{number:04d}",
            "run": job.run.model_copy(update={"storage": self.options.folder / TRIALS}),
            "scale": ScaleOptions(num_workers=resources.num_workers, cpus_per_worker=resources.cpus),
        }
        metric = self.options.metrics[0]
        if isinstance(job, FinetuneJob):
            changes |= _kept_by(job, metric.name, metric.scope)
        changed: TrialJob = job.model_copy(update=changes)
        return changed

    def _task(self, suggestion: Suggestion) -> TrialTask:
        job = self.job_of(suggestion.assignment, suggestion.number)
        if suggestion.resumed:
            facts = next(each.facts for each in self.study.trials if each.number == suggestion.number)
            job = with_micro_batch(job, facts.get(MICRO_BATCH))
        curves = self.options.folder / "tensorboard" / TRIALS / job.name
        return TrialTask(suggestion.number, job, curves, self.options.metrics, self._prepare(job))

    def _known(self, suggestion: Suggestion) -> Mapping[int, float]:
        if not suggestion.resumed:
            return {}
        return next(each.intermediate for each in self.study.trials if each.number == suggestion.number)

    def _progress(self, trial: RunningTrial) -> dict[str, float]:
        last, metric = trial.history[-1], self.options.metrics[0]
        best = (max if metric.mode == "max" else min)(trial.history, key=lambda each: each.values.get(metric.name, 0.0))
        return {SECONDS_TRAINED: last.seconds, STEPS: last.step, BEST_STEP: best.step, ENDED_EARLY: 0.0}

    def _values(self, trial: RunningTrial, number: int) -> list[float]:
        """The metrics at a report: what it was then, whatever the scope."""
        values = trial.history[number - 1].values
        return [values.get(metric.name, trial.facts.get(metric.name, 0.0)) for metric in self.options.metrics]

    def _verdict(self, trial: RunningTrial, report: TrialReport) -> Stop | None:
        metric = self.options.metrics[0]
        history = [Reached(each.number, self._values(trial, each.number)[0], each.seconds) for each in trial.history]
        verdict = stop(self.options.stop, metric.mode, history)
        if verdict is None and report.is_last:
            return Stop("finished", "")
        if verdict is None and (why := self.study.should_prune(trial.suggestion.number)):
            return Stop("pruned", why)
        return verdict

    def _conclude(self, trial: RunningTrial, verdict: Stop) -> None:
        number = trial.suggestion.number
        if verdict.outcome == "pruned":
            self.study.prune(number, verdict.why)
        elif verdict.outcome == "diverged":
            self.study.diverge(number, verdict.why)
        else:
            values = [value_of(metric, trial.history, trial.facts) for metric in self.options.metrics]
            self.study.finish(number, values, verdict.why)
        self._ended(trial)

    def _trouble(self, trial: RunningTrial, trouble: Trouble) -> None:
        number = trial.suggestion.number
        if trouble.kind == "out_of_memory" and self.options.on_oom != "fail":
            self.study.infeasible(number, trouble.why)
        elif trouble.kind == "diverged" and self.options.stop.nan:
            self.study.diverge(number, trouble.why)
        else:
            self.study.fail(number, trouble.why, trouble.traceback)
        self._ended(trial)

    def _ended(self, trial: RunningTrial) -> None:
        self.running.pop(trial.suggestion.number, None)
        self._watch.ended(trial.suggestion.number)

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of trials that have ended and are not among the best."""
        if self.options.keep_checkpoints == "all":
            return
        kept = {record.number for record in self.study.best} | self.running.keys()
        for folder in (self.options.folder / TRIALS).glob("*"):
            if folder.name.isdigit() and int(folder.name) not in kept:
                for checkpoints in (folder / "checkpoints", *folder.glob("members/*/checkpoints")):
                    shutil.rmtree(checkpoints, ignore_errors=True)


def _kept_by(job: FinetuneJob, metric: str, scope: str) -> dict[str, Any]:
    """What makes a run keep the weights that the search judges it by."""
    part, _, name = metric.partition("/")
    if part != "valid" or scope == "mean":
        return {}
    if scope == "last":
        return {"train": job.train.model_copy(update={"keep": "last"})}
    return {
        "task": job.task.model_copy(update={"metric": name}),
        "train": job.train.model_copy(update={"keep": "best"}),
    }


def with_micro_batch(job: TrialJob, tokens: float | str | None) -> TrialJob:
    """The job with as much in the model at once as a trial came down to; None: as it is."""
    if tokens is None or int(tokens) >= job.train.micro_batch_tokens:
        return job
    train = job.train.model_copy(update={MICRO_BATCH: int(tokens)})
    smaller: TrialJob = job.model_copy(update={"train": train})
    return smaller
