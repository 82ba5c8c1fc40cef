"""How many reports a whole trial has: what a scheduler must know to judge neither too early nor at the end."""

import math

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.trial_job import TrialJob
from reforge.runs.tune_job import TuneSearch

_DRAWS = 8  # jobs that are looked at


def num_reports(job: TrialJob) -> int:
    """Of a trial that nothing stops: its validations, or its runs where it is several."""
    if isinstance(job, FinetuneJob):
        if job.has_members:
            return len(job.members())
        return math.ceil(job.train.max_epochs * job.train.evals_per_epoch)
    return math.ceil(job.train.max_steps / job.train.eval_every_steps)


def most_reports(search: TuneSearch) -> int | None:
    """Of the longest of some trials of a search; None where none of them can be trained."""
    drawn = (each for each in search.space.draws(_DRAWS, seed=0) if not search.violated(each))
    counts = [num_reports(search.job(assignment)) for assignment in drawn]
    limit = search.options.stop.max_reports
    return min([max(counts), *([limit] if limit else [])]) if counts else None
