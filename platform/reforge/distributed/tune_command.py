"""The command lines of searches, and what they print."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import torch
import yaml

from reforge.distributed.arguments import guarded, say, spec_and_overrides, spec_parser
from reforge.distributed.cluster import Resources, find_resources, start_if_none
from reforge.distributed.command import tensorboard_command
from reforge.distributed.corpora import Corpora
from reforge.distributed.crew import CrewShape
from reforge.distributed.tune import run_search, trial_shape, trials_at_once
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.folder import RunFolder
from reforge.runs.job import PretrainJob
from reforge.runs.search_identity import context_of
from reforge.runs.search_keeping import SearchKeeper
from reforge.runs.search_results import BestTrial, disk_bytes, finish_best, keep_best
from reforge.runs.search_run import SearchRun
from reforge.runs.tune_job import TrialJob, TuneOptions, TuneSearch, tune_problems
from reforge.search import Space, compile_search
from reforge.search.report import write_report
from reforge.search.rules import scheduler_problems
from reforge.search.study import Study
from reforge.spec import Problem, load_source
from reforge.tracking import write_whole
from reforge.tracking.hparams import label
from reforge.tracking.progress import duration
from reforge.tracking.trials_table import TrialsTable

AGAIN = (
    "the same command goes on: trials that have ended are kept, those that were running go on from their checkpoints"
)


def tune_command(job: type[TrialJob], default_space: Path, arguments: Sequence[str] | None = None) -> int:
    """`python jobs/tune_*.py [--space FILE] [key.path=value ...] [--preview | --dry-run]`; the process's exit code."""
    return guarded(lambda: _tune(job, default_space, arguments), interrupted=AGAIN)


def _tune(job: type[Any], default_space: Path, arguments: Sequence[str] | None) -> None:
    kind = "pre-training" if job is PretrainJob else "fine-tuning"
    parser = spec_parser(f"Search for the best {kind} in a space of job specs.", default_space)
    parser.add_argument("--space", metavar="FILE", help="the space, as a first word says it too")
    options = parser.parse_intermixed_args(arguments)
    words = [*([options.space] if options.space else []), *options.words]
    path, overrides = spec_and_overrides(words, default_space)
    resources = find_resources()
    search = load_search(path, overrides, job, resources)
    search_command(search, resources)


def load_search(path: Path, overrides: Sequence[str], job: type[Any], resources: Resources) -> TuneSearch:
    """The search in a file, checked as far as it can be before the first trial."""

    def rules(options: TuneOptions, space: Space, jobs: Sequence[Any]) -> Iterator[Problem]:
        yield from tune_problems(options, space, jobs)
        yield from scheduler_problems(options.scheduler, len(options.metrics), options.stop)
        yield from room_problems(options, resources)

    source = load_source(path, overrides, dotted=("space",))
    search: TuneSearch = compile_search(source, job, TuneOptions, rules=rules)
    return search


def room_problems(options: TuneOptions, resources: Resources) -> Iterator[Problem]:
    """A trial that the cluster has no room for."""
    shape = trial_shape(options.resources, resources)
    cpus, gpus = shape.num_workers * shape.cpus, shape.num_workers * shape.gpus
    if cpus > resources.num_cpus:
        rule = f"a trial needs {cpus} CPUs, and {resources.name} has {resources.num_cpus}"
        yield Problem(("resources", "cpus"), rule, shape.cpus)
    if gpus > resources.num_gpus:
        rule = f"a trial needs {gpus:g} GPUs, and {resources.name} has {resources.num_gpus}"
        yield Problem(("resources", "gpus"), rule, options.resources.gpus)
    room, asked = trials_at_once(shape, resources), options.search.max_concurrent
    if asked != "auto" and asked > max(1, room):
        rule = f"must be auto or at most {room}, the trials that {resources.name} has room for"
        yield Problem(("search", "max_concurrent"), rule, asked)


def search_command(search: TuneSearch, resources: Resources) -> None:
    """Run a search to its end, or go on with it, and print what it found."""
    options = search.options
    shape = trial_shape(options.resources, resources)
    with held(options):
        study = open_study(search)
        for note in study.notes:
            say(note)
        with TrialsTable() as table:
            keeper = SearchKeeper(options, search.space, study, table)
            corpora = Corpora(resources, table.say) if search.job_type is PretrainJob else None
            run = SearchRun(search, study, corpora.folder_of if corpora else None, keeper)
            keeper.run = run
            try:
                train(run, corpora, shape, resources, keeper.show)
            finally:
                keeper.write_csv(now=True)
                best = keep_best(run)
                keep_report(search, study, shape)
        for each in best:
            finish(each, corpora, shape, resources)
    show_search(run, best)


@contextmanager
def held(options: TuneOptions) -> Iterator[None]:
    """The search's folder, held against other processes."""
    lock = RunFolder(options.folder).hold()
    try:
        yield
    finally:
        lock.close()


def open_study(search: TuneSearch) -> Study:
    """The study of a search, in its storage."""
    options = search.options
    return Study(
        options.name,
        search.space,
        options.search,
        options.metrics,
        options.study_storage,
        search.violated,
        context_of(search),
        options.scheduler,
    )


def train(
    run: SearchRun, corpora: Corpora | None, shape: CrewShape, resources: Resources, look: Callable[[], None]
) -> None:
    """All trials that are left."""
    if corpora is not None:
        corpora.prepare_ahead(run.search)
    at_once = run.options.search.max_concurrent
    start_if_none(resources)
    run_search(run, shape, trials_at_once(shape, resources) if at_once == "auto" else at_once, look)


def keep_report(search: TuneSearch, study: Study, shape: CrewShape) -> None:
    """spec.yaml and report.html."""
    options = search.options
    text = yaml.safe_dump(search.source.data, sort_keys=False, allow_unicode=True)
    write_whole(options.folder / "spec.yaml", text)
    held_resources = {"cpus": float(shape.num_workers * shape.cpus), "gpus": shape.num_workers * shape.gpus}
    write_report(options.folder / "report.html", study, options.metrics, options.name, text, held_resources)


def finish(best: BestTrial, corpora: Corpora | None, shape: CrewShape, resources: Resources) -> None:
    """Make the best trial a finished run, where it is a single one and that has not been done."""
    job = best.job
    if (isinstance(job, FinetuneJob) and job.has_members) or RunFolder(best.folder).result.is_file():
        return
    start_if_none(resources)
    prepared = corpora.folder_of(job) if corpora is not None and isinstance(job, PretrainJob) else None
    task = _finish.options(num_cpus=shape.cpus, num_gpus=min(1, shape.gpus))
    ray.get(task.remote(best, prepared, shape))


@ray.remote  # type: ignore[untyped-decorator]
def _finish(best: BestTrial, prepared: Path | None, shape: CrewShape) -> None:
    with suppress(OSError):
        os.chdir(shape.cwd)
    torch.set_num_threads(shape.cpus)
    finish_best(best, torch.device("cuda", 0) if shape.gpus else torch.device("cpu"), prepared)


def show_search(run: SearchRun, best: Sequence[BestTrial]) -> None:
    """Print what a search found and where to look next."""
    options, trials = run.options, run.study.trials
    counts = Counter(record.outcome for record in trials)
    print(f"\nended              {run.study.ended}")
    print(f"trials             {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}")
    print(f"time               {duration(run.study.seconds_used)}")
    print(f"disk               {disk_bytes(options.folder) / 2**20:,.0f} MiB")
    for each in best:
        figures = zip(options.metrics, each.record.values, strict=True)
        print(f"\nbest               trial {each.record.number}")
        for metric, value in figures:
            print(f"{metric.name:<18} {value:.4f}")
        for path, setting in each.record.assignment.items():
            print(f"  {path}: {label(setting)}")
        print(f"spec               {each.spec}")
        print(f"run                {each.folder}")
    print(f"\nreport             {options.folder / 'report.html'}")
    print(f"trials             {options.folder / 'trials.csv'}")
    print(f"TensorBoard        {tensorboard_command(options.folder)}")
