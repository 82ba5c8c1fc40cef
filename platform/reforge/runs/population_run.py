"""A search whose trials are a population: they train in rounds, and the worst of a round go on as the best.

next_trial --a turn--> whoever trains it --judge--> waits for the others --all have come--> settle --> the next turns

New trials come first, and all of them before a round is settled; where there is room for fewer, they take turns.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reforge.runs.job import PretrainJob
from reforge.runs.search_run import TRIALS, RunningTrial, SearchRun
from reforge.runs.trial import TrialTask
from reforge.runs.trial_job import TrialJob
from reforge.runs.trial_process import Advance
from reforge.runs.turn import Turn, drop_rounds, round_folder
from reforge.search.population import Population
from reforge.search.study import Suggestion


class PopulationRun(SearchRun):
    """Hands out turns; a trial that waits for the others is among those that are `running`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert self.study.population is not None, "the scheduler is pbt"
        self._population: Population = self.study.population
        self._are_all_out = False
        self._waiting: dict[int, int] = {}  # the report that each has come to
        self._ready: list[int] = []

    @property
    def is_waiting(self) -> bool:
        """Whether there will be something to hand out though `next_trial` has nothing now."""
        return bool(self.running)

    def next_trial(self) -> TrialTask | None:
        """The next turn; None where all are at their turns, `is_waiting`, and at the end of the search."""
        if not self._are_all_out:
            task = super().next_trial()
            if task is not None:
                return task
            self._are_all_out = True
        if self._waiting and self._waiting.keys() == self.running.keys():
            self._settle(min(self._waiting.values()))
        if self._ready:
            return self._next_turn(self.running[self._ready.pop(0)])
        if not self.running:
            for folder in self._folders():
                drop_rounds(folder)
        return None

    def judge(self, number: int, advance: Advance, measured: Mapping[str, float] | None = None) -> bool:
        """Tell the study what a trial has come to; whether the trial or its turn is at its end."""
        if super().judge(number, advance, measured):
            return True
        trial = self.running[number]
        assert trial.task.turn is not None
        if trial.judged < trial.task.turn.ends_at:
            return False
        self._waiting[number] = trial.judged
        return True

    def job_of(self, assignment: Mapping[str, Any], number: int) -> TrialJob:
        """A checkpoint at each report: others may take it over."""
        job = super().job_of(assignment, number)
        if isinstance(job, PretrainJob):
            train = job.train.model_copy(update={"checkpoint_every_steps": job.train.eval_every_steps})
            return job.model_copy(update={"train": train})
        return job

    def _begun(self, suggestion: Suggestion) -> RunningTrial:
        trial = super()._begun(suggestion)
        trial.task = replace(trial.task, turn=self._turn(suggestion.number))
        return trial

    def _settle(self, report: int) -> None:
        """Decide how those that have come to a report go on; what is kept of them goes unless it is taken over."""
        waiting = [number for number, reached in sorted(self._waiting.items()) if reached == report]
        self._population.settle(report, waiting, lambda number: round_folder(self._folder(number), report).is_dir())
        donors = self._population.donors(report)
        for folder in self._folders():
            drop_rounds(folder, report if int(folder.name) in donors else report + 1)
        self._waiting = {number: reached for number, reached in self._waiting.items() if reached != report}
        self._ready += waiting

    def _next_turn(self, trial: RunningTrial) -> TrialTask:
        number = trial.suggestion.number
        turn = self._turn(number)
        if turn.takeover is not None:
            assignment = turn.takeover.assignment
            chosen = self.search.space.values_of(assignment)
            trial.suggestion = replace(trial.suggestion, chosen=chosen, assignment=assignment)
            trial.task = replace(trial.task, job=self.job_of(assignment, number))
            self._watch.began(trial)
        trial.task = replace(trial.task, turn=turn)
        return trial.task

    def _turn(self, number: int) -> Turn:
        takeover = self._population.takeover(number)
        donor = None if takeover is None else self._folder(takeover.donor).absolute()
        return Turn(self._population.next_report(number), takeover, donor)

    def _folder(self, number: int) -> Path:
        return self.options.folder / TRIALS / f"{number:04d}"

    def _folders(self) -> list[Path]:
        return [folder for folder in (self.options.folder / TRIALS).glob("*") if folder.name.isdigit()]
