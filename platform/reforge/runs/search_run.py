"""A search as its one driver runs it: tasks out, reports in, everything told to the study. No Ray here.

study --Suggestion--> TrialTask --> whoever trains it --TrialReport | Trouble--> judge --> study
                                                                                     '--> goes on, or is at its end
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob, ScaleOptions
from reforge.runs.stop_request import StopRequest
from reforge.runs.trial import TrialTask
from reforge.runs.trial_job import TrialJob
from reforge.runs.trial_process import Advance, Trouble
from reforge.runs.tune_job import TuneSearch
from reforge.search.options import MetricOptions
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
    judged: the newest report that has been judged here
    """

    suggestion: Suggestion
    task: TrialTask
    history: tuple[Validation, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    told: int = 0
    judged: int = 0

    @property
    def values(self) -> list[float]:
        """The metrics so far."""
        return [value_of(metric, self.history, self.facts) for metric in over_reports(self.task)]


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

    @property
    def folders(self) -> list[Path]:
        """Those of the runs that train now, or may."""
        return [folder for trial in self.running.values() for folder in run_folders(trial.task.job)]

    @property
    def is_waiting(self) -> bool:
        """Whether there will be something to hand out though `next_trial` has nothing now."""
        return False

    def next_trial(self) -> TrialTask | None:
        """The next trial to train; None at the end of the search, which `study.ended` gives the reason of."""
        while (suggestion := self.study.ask()) is not None:
            if suggestion.action != "run":
                self._watch.ended(suggestion.number)
                continue
            trial = self._begun(suggestion)
            self.running[suggestion.number] = trial
            self._watch.began(trial)
            return trial.task
        return None

    def judge(self, number: int, advance: Advance, measured: Mapping[str, float] | None = None) -> bool:
        """Tell the study what a trial has come to; whether the trial is at its end.

        measured: facts beside those of the report
        """
        trial = self.running[number]
        if isinstance(advance, Trouble) and advance.kind == "stopped":
            del self.running[number]  # the study still has it running: the next start goes on with it
            return True
        if isinstance(advance, Trouble):
            self._trouble(trial, advance)
            return True
        trial.facts = {**trial.facts, **advance.facts, **(measured or {})}
        verdict = None
        # Those that come together, from a trial whose driver died, are judged as if they had come one by one.
        for count in range(min(trial.judged + 1, len(advance.history)), len(advance.history) + 1):
            is_last = advance.is_last and count == len(advance.history)
            verdict = self._judge_report(trial, advance.history[:count], is_last)
            if verdict is not None:
                break
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
        prepared = job.run.prepared_root if isinstance(job, PretrainJob) else job.run.prepared
        changes: dict[str, Any] = {
            "name": f"{number:04d}",
            "run": job.run.model_copy(update={"storage": self.options.folder / TRIALS, "prepared": prepared}),
            "scale": ScaleOptions(num_workers=resources.num_workers, cpus_per_worker=resources.cpus),
        }
        metric = self.options.metrics[0]
        if isinstance(job, FinetuneJob):
            changes |= _kept_by(job, metric.name, metric.scope)
        changed: TrialJob = job.model_copy(update=changes)
        return changed

    def _begun(self, suggestion: Suggestion) -> RunningTrial:
        job = self.job_of(suggestion.assignment, suggestion.number)
        for folder in run_folders(job):
            StopRequest(folder).clear()  # of a driver that died before the trial read it
        facts: dict[str, float] = {}
        told = 0
        if suggestion.resumed:
            record = next(each for each in self.study.trials if each.number == suggestion.number)
            facts = {name: float(value) for name, value in record.facts.items()}
            told = max(record.intermediate, default=0)
            job = with_micro_batch(job, facts.get(MICRO_BATCH))
        curves = self.options.folder / "tensorboard" / TRIALS / job.name
        task = TrialTask(suggestion.number, job, curves, self.options.metrics, self._prepare(job))
        # Its driver may have died between the newest report and the verdict.
        return RunningTrial(suggestion, task, facts=facts, told=told, judged=max(0, told - 1))

    def _judge_report(self, trial: RunningTrial, history: tuple[Validation, ...], is_last: bool) -> Stop | None:
        """Tell the newest report of `history`, where it is new, and give the verdict on it."""
        number, newest = trial.suggestion.number, history[-1].number
        trial.history, trial.judged = history, newest
        trial.facts = {**trial.facts, **self._progress(history)}
        if newest > trial.told:
            self.study.report(number, newest, self._values(trial, history[-1]))
            trial.told = newest
        self.study.measured(number, trial.facts)
        verdict = self._verdict(trial, is_last)
        if verdict is not None and verdict.outcome == "finished" and not is_last:
            trial.facts = {**trial.facts, ENDED_EARLY: 1.0}
            self.study.measured(number, trial.facts)
        return verdict

    def _progress(self, history: Sequence[Validation]) -> dict[str, float]:
        last, metric = history[-1], self.options.metrics[0]
        known = [each for each in history if math.isfinite(each.values.get(metric.name, math.nan))]
        best = (max if metric.mode == "max" else min)(known, key=lambda each: each.values[metric.name], default=last)
        return {SECONDS_TRAINED: last.seconds, STEPS: last.step, BEST_STEP: best.step, ENDED_EARLY: 0.0}

    def _values(self, trial: RunningTrial, report: Validation) -> list[float]:
        """The metrics at a report: what it was then, whatever the scope."""
        return [
            float(report.values.get(metric.name, trial.facts.get(metric.name, math.nan)))
            for metric in self.options.metrics
        ]

    def _verdict(self, trial: RunningTrial, is_last: bool) -> Stop | None:
        history = [Reached(each.number, _first(self._values(trial, each)), each.seconds) for each in trial.history]
        verdict = stop(self.options.stop, self.options.metrics[0].mode, history)
        if verdict is None and is_last:
            return Stop("finished", "")
        if verdict is None and (why := self.study.should_prune(trial.suggestion.number)):
            return Stop("pruned", why)
        if verdict is not None and verdict.outcome == "finished" and not is_last and has_members(trial.task.job):
            # The mean of some folds or seeds is not that of all of them: such a trial is not to be the best.
            return Stop("pruned", verdict.why)
        return verdict

    def _conclude(self, trial: RunningTrial, verdict: Stop) -> None:
        number = trial.suggestion.number
        if verdict.outcome == "pruned":
            self.study.prune(number, verdict.why)
        elif verdict.outcome == "diverged":
            self.study.diverge(number, verdict.why)
        else:
            self.study.finish(number, trial.values, verdict.why)
        self._ended(trial)

    def _trouble(self, trial: RunningTrial, trouble: Trouble) -> None:
        number = trial.suggestion.number
        if trouble.kind == "out_of_memory" and self.options.on_oom != "fail":
            self.study.infeasible(number, trouble.why)
        elif trouble.kind == "diverged":
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
        # Those that a driver which died left running are perhaps not handed out again yet.
        running = {record.number for record in self.study.trials if record.outcome == "running"}
        kept = {record.number for record in self.study.best} | running | self.running.keys()
        for folder in (self.options.folder / TRIALS).glob("*"):
            if folder.name.isdigit() and int(folder.name) not in kept:
                for checkpoints in (folder / "checkpoints", *folder.glob("members/*/checkpoints")):
                    shutil.rmtree(checkpoints, ignore_errors=True)


def run_folders(job: TrialJob) -> list[Path]:
    """The folders of a trial's single runs."""
    return [member.folder for _, member in job.members()] if isinstance(job, FinetuneJob) else [job.folder]


def has_members(job: TrialJob) -> bool:
    """Whether a trial is several runs, its reports the means over those that have ended."""
    return isinstance(job, FinetuneJob) and job.has_members


def over_reports(task: TrialTask) -> tuple[MetricOptions, ...]:
    """The metrics as a trial's reports are judged by them: of several runs the scope is that within each of them."""
    if not has_members(task.job):
        return task.metrics
    return tuple(metric.model_copy(update={"scope": "last"}) for metric in task.metrics)


def _first(values: Sequence[float]) -> float:
    """What stops a trial: the first metric, or that one of them is no number."""
    return math.nan if any(map(math.isnan, values)) else values[0]


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
