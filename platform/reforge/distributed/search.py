"""A search from its study to what it leaves behind, on a cluster."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import ray
import torch
import yaml

from reforge.distributed.arguments import say
from reforge.distributed.cluster import Resources, start_if_none
from reforge.distributed.corpora import Corpora
from reforge.distributed.crew import CrewShape
from reforge.distributed.search_memory import MEMORY_FILE, fitted, measure, memory_of_trials
from reforge.distributed.shared_storage import check_nodes
from reforge.distributed.tune import run_search, trial_shape, trials_at_once
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.folder import RunFolder
from reforge.runs.job import PretrainJob
from reforge.runs.population_run import PopulationRun
from reforge.runs.search_identity import context_of
from reforge.runs.search_keeping import SearchKeeper
from reforge.runs.search_results import BestTrial, finish_best, keep_best
from reforge.runs.search_run import SearchRun
from reforge.runs.trial_job import TrialJob
from reforge.runs.trial_length import most_reports
from reforge.runs.trial_memory import TrialMemory, by_size, needs_a_fit, to_measure, violations
from reforge.runs.tune_job import TuneSearch
from reforge.search.report import write_report
from reforge.search.study import Study
from reforge.tracking import write_whole
from reforge.tracking.trials_table import TrialsTable


class Place:
    """Where a search runs: what each trial takes, how many at a time, the corpora that they share."""

    def __init__(self, search: TuneSearch, resources: Resources, announce: Callable[[str], None] = say) -> None:
        options = search.options
        self.resources = resources
        self.shape: CrewShape = trial_shape(options.resources, resources)
        room, asked = trials_at_once(self.shape, resources), options.search.max_concurrent
        self.at_once = room if asked == "auto" else min(asked, room)
        self.corpora = Corpora(resources, announce) if search.job_type is PretrainJob else None

    def prepared(self, job: TrialJob) -> Path | None:
        """The prepared corpus of a pre-training."""
        return self.corpora.folder_of(job) if self.corpora is not None and isinstance(job, PretrainJob) else None


def search_whole(search: TuneSearch, resources: Resources) -> tuple[SearchRun, list[BestTrial]]:
    """Run a search to its end, or go on with it; what it found."""
    options, place = search.options, Place(search, resources)
    check_nodes([("run.storage", options.run.folder)])
    with held(search):
        if place.corpora is not None:
            place.corpora.prepare_ahead(search)
        memory = know_memory(search, place)
        study = open_study(search, memory)
        for note in study.notes:
            say(note)
        with TrialsTable() as table:
            keeper = SearchKeeper(options, search.space, study, table)
            kind = SearchRun if study.population is None else PopulationRun
            run = kind(search, study, place.prepared, keeper)
            keeper.run = run
            try:
                if not study.is_over:
                    start_if_none(resources)
                    run_search(run, place.shape, place.at_once, keeper.show)
            finally:
                keeper.write_csv(now=True)
                best = keep_best(run)
                keep_report(search, study, place.shape)
        for each in best:
            finish(each, place)
    return run, best


def know_memory(search: TuneSearch, place: Place) -> TrialMemory:
    """What trials take; measured on some of them where that matters and has not been done."""
    memory = memory_of_trials(search, place.shape, place.at_once, place.resources)
    sized = by_size(search, memory)
    if needs_a_fit(memory, sized):
        jobs = to_measure(memory, sized)
        say(f"memory: some trials come near what one has; measuring {len(jobs)} of them")
        memory = fitted(memory, jobs, measure(jobs, place.shape, place.resources, place.prepared))
        memory.keep(search.options.folder / MEMORY_FILE)
    return memory


@contextmanager
def held(search: TuneSearch) -> Iterator[None]:
    """The search's folder, held against other processes."""
    lock = RunFolder(search.options.folder).hold()
    try:
        yield
    finally:
        lock.close()


def open_study(search: TuneSearch, memory: TrialMemory) -> Study:
    """The study of a search, in its storage."""
    options, reports = search.options, most_reports(search)
    return Study(
        options.name,
        search.space,
        options.search,
        options.metrics,
        options.study_storage,
        partial(violations, search, memory),
        context_of(search),
        options.scheduler.of_trials(reports) if reports else options.scheduler,
    )


def keep_report(search: TuneSearch, study: Study, shape: CrewShape) -> None:
    """spec.yaml and report.html."""
    options = search.options
    text = yaml.safe_dump(search.source.data, sort_keys=False, allow_unicode=True)
    write_whole(options.folder / "spec.yaml", text)
    held_resources = {"cpus": float(shape.num_workers * shape.cpus), "gpus": shape.num_workers * shape.gpus}
    write_report(options.folder / "report.html", study, options.metrics, options.name, text, held_resources)


def finish(best: BestTrial, place: Place) -> None:
    """Make the best trial a finished run, where it is a single one and that has not been done."""
    job = best.job
    if (isinstance(job, FinetuneJob) and job.has_members) or RunFolder(best.folder).result.is_file():
        return
    if not place.shape.gpus:  # a process for it would take longer to start than the work does
        _finish(best, place.prepared(job), place.shape)
        return
    start_if_none(place.resources)
    task = ray.remote(_finish).options(num_cpus=place.shape.cpus, num_gpus=min(1, place.shape.gpus))
    ray.get(task.remote(best, place.prepared(job), place.shape))


def _finish(best: BestTrial, prepared: Path | None, shape: CrewShape) -> None:
    with suppress(OSError):  # on another node
        os.chdir(shape.cwd)
    before = torch.get_num_threads()
    torch.set_num_threads(shape.cpus)  # as the trial had: their number decides how sums are rounded
    try:
        finish_best(best, torch.device("cuda", 0) if shape.gpus else torch.device("cpu"), prepared)
    finally:
        torch.set_num_threads(before)
