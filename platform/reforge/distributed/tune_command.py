"""The command lines of searches, and what they print."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reforge.distributed.arguments import guarded, spec_and_overrides, spec_parser
from reforge.distributed.cluster import Resources, find_resources
from reforge.distributed.command import show_dry_run, tensorboard_command
from reforge.distributed.search import Place, search_whole
from reforge.distributed.search_memory import fitted, measure, memory_of_trials
from reforge.distributed.tune import trial_shape
from reforge.runs.job import PretrainJob
from reforge.runs.preview import Timed, preview, trial_seconds
from reforge.runs.search_results import BestTrial, disk_bytes
from reforge.runs.search_run import SearchRun
from reforge.runs.trial_job import TrialJob
from reforge.runs.trial_memory import by_size, to_measure
from reforge.runs.tune_job import TuneOptions, TuneSearch, tune_problems
from reforge.search import Space, compile_search
from reforge.search.rules import scheduler_problems
from reforge.spec import Problem, UserError, load_source
from reforge.tracking.hparams import label
from reforge.tracking.progress import duration

GIB = 2**30
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
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--preview", action="store_true", help="print the space, the memory and the time it takes, stop")
    mode.add_argument("--dry-run", action="store_true", help="take two steps of one trial, report memory, stop")
    options = parser.parse_intermixed_args(arguments)
    words = [*([options.space] if options.space else []), *options.words]
    path, overrides = spec_and_overrides(words, default_space)
    resources = find_resources()
    search = load_search(path, overrides, job, resources)
    if options.preview:
        preview_search(search, resources)
    elif options.dry_run:
        dry_run_search(search, resources)
    else:
        show_search(*search_whole(search, resources))


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


def preview_search(search: TuneSearch, resources: Resources) -> None:
    """Print what the search will be; leaves nothing behind but prepared corpora."""
    place = Place(search, resources)
    memory = memory_of_trials(search, place.shape, place.at_once, resources)
    jobs = to_measure(memory, by_size(search, memory))
    runs = measure(jobs, place.shape, resources, place.prepared)
    timed = [Timed(run, trial_seconds(job, run)) for job, run in zip(jobs, runs, strict=True) if run is not None]
    for line in preview(search, fitted(memory, jobs, runs), timed, place.at_once):
        print(line)


def dry_run_search(search: TuneSearch, resources: Resources) -> None:
    """Take two steps of one trial, the one in the middle by its size."""
    place = Place(search, resources)
    memory = memory_of_trials(search, place.shape, place.at_once, resources)
    jobs = to_measure(memory, by_size(search, memory))
    if not jobs:
        raise UserError(f"no trial fits into the {memory.limit_bytes / GIB:.1f} GiB that a worker of one has")
    job = jobs[len(jobs) // 2]
    [run] = measure([job], place.shape, resources, place.prepared)
    if run is None:
        raise UserError("the trial ran out of memory in its first two steps; --preview says what trials take")
    show_dry_run(run)


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
