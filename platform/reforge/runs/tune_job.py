"""The spec of a search: its sections beside `space` and `constraints`, and the rules between them and the jobs."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field

from reforge.corpora.place import is_remote
from reforge.objectives.masking import MaskingOptions
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob, RunOptions
from reforge.runs.trial_job import TrialJob
from reforge.search.compilation import Search
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.rules import population_problems
from reforge.search.schedulers import AnyScheduler, NoScheduler, PopulationOptions
from reforge.search.space import Space
from reforge.search.stopping import StopOptions
from reforge.spec import Part, Problem

TuneSearch = Search[FinetuneJob, "TuneOptions"] | Search[PretrainJob, "TuneOptions"]

# What is measured of every trial beside its validation, and may be a metric.
FACTS = ("num_parameters", "peak_memory_gib", "seconds_trained")
HOW_TO_HIDE = frozenset(f"objective.{name}" for name in MaskingOptions.model_fields)
LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "mse", *FACTS)


class ResourceOptions(Part):
    """The `resources:` section: what one trial takes.

    num_workers: processes that train a trial together, data-parallel
    cpus: of each worker
    gpus: of each worker; a fraction is a share of one GPU and of its memory; `auto` is one where the cluster has any
    max_failures: how often a trial whose process dies goes on from its last checkpoint
    """

    num_workers: int = Field(1, ge=1)
    cpus: int = Field(1, ge=1)
    gpus: float | Literal["auto"] = "auto"
    max_failures: int = Field(2, ge=0)

    def problems(self) -> Iterator[Problem]:
        """A share of a GPU, or whole ones."""
        gpus = self.gpus
        if gpus != "auto" and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            yield Problem(("gpus",), "must be auto, a fraction of one GPU, or a whole number", gpus)


class TuneOptions(Part):
    """A search, without its space and the job that it extends.

    metric: what trials are compared by; a list has a Pareto front
    scheduler: stops trials that compare badly, or has them go on as better ones
    stop: ends trials by their own reports
    on_oom: a trial that runs out of memory is told as infeasible (prune), begins anew with half the micro-batch
        (shrink_batch; the global batch stays), or counts as failed (fail)
    keep_checkpoints: of the trials that have ended: those of the best, or of all
    storage: of the study, a path or URL; null: study.journal in the search's folder
    """

    kind: Literal["tune"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    metric: MetricOptions | tuple[MetricOptions, ...]
    search: SearchOptions = SearchOptions()
    scheduler: AnyScheduler = NoScheduler()
    stop: StopOptions = StopOptions()
    resources: ResourceOptions = ResourceOptions()
    on_oom: Literal["prune", "shrink_batch", "fail"] = "prune"
    keep_checkpoints: Literal["best", "all"] = "best"
    storage: str | None = None
    run: RunOptions = RunOptions()

    @property
    def metrics(self) -> tuple[MetricOptions, ...]:
        """The metrics, also where there is one."""
        return self.metric if isinstance(self.metric, tuple) else (self.metric,)

    @property
    def folder(self) -> Path:
        """Where all of the search is kept."""
        return self.run.folder / self.name

    @property
    def study_storage(self) -> str:
        """Where the study lies."""
        return self.storage or str(self.folder / "study.journal")

    def problems(self) -> Iterator[Problem]:
        """There is a metric, and none twice; the search's folder is on a disk."""
        if is_remote(self.run.storage):
            rule = "must be a folder that all nodes have in common: a search is not kept in a store"
            yield Problem(("run", "storage"), rule, str(self.run.storage))
        names = [metric.name for metric in self.metrics]
        if not names:
            yield Problem(("metric",), "must name one metric at least", [])
        if len(set(names)) < len(names):
            yield Problem(("metric",), "must not name a metric twice", names)


def reported_by(job: TrialJob) -> tuple[str, ...]:
    """The figures that a trial of this job has."""
    if isinstance(job, PretrainJob):
        return (*(f"valid/{name}" for name in job.objective.metric_names), *FACTS)
    names = (*job.task.metric_names, "loss")
    if job.cv is None:
        return (*(f"valid/{name}" for name in names), *FACTS)
    return (*(f"{part}/{name}" for part in ("valid", "test") for name in names), *FACTS)


def tune_problems(options: TuneOptions, space: Space, jobs: Sequence[TrialJob]) -> Iterator[Problem]:
    """What is wrong with a search though its parts are right; paths are those of its spec.

    jobs: some of those that the space stands for
    """
    searched = {path for dimension in space.dimensions for path in dimension.paths}
    for index, metric in enumerate(options.metrics):
        path: tuple[str | int, ...] = ("metric", index) if isinstance(options.metric, tuple) else ("metric",)
        yield from _metric_problems(metric, path, jobs, searched)
    if isinstance(options.scheduler, PopulationOptions):
        yield from population_problems(options.scheduler, options.search, space)
        yield from _unlike_single_runs(options, jobs)
    workers = options.resources.num_workers
    for job in jobs:
        batch = job.train.batch_size if isinstance(job, FinetuneJob) else _blocks_a_step(job)
        if workers > batch:
            rule = f"must be at most what a step of the smallest trial takes ({batch})"
            yield Problem(("resources", "num_workers"), rule, workers)
            return


def _unlike_single_runs(options: TuneOptions, jobs: Sequence[TrialJob]) -> Iterator[Problem]:
    """What a population's schedule cannot have, since trials take over each other's weights as they train."""
    for key in ("cv", "repeat"):
        if any(getattr(job, key, None) is not None for job in jobs):
            yield Problem((key,), "must be left out under pbt: trials of several runs have no weights to take over")
    if options.on_oom == "shrink_batch":
        rule = "must be prune or fail under pbt: a trial that begins anew is no longer beside the others"
        yield Problem(("on_oom",), rule, options.on_oom)


def _blocks_a_step(job: PretrainJob) -> int:
    return job.train.global_batch_tokens // job.data.block_tokens


def _metric_problems(
    metric: MetricOptions, path: tuple[str | int, ...], jobs: Sequence[TrialJob], searched: set[str]
) -> Iterator[Problem]:
    for job in jobs:
        names = reported_by(job)
        if metric.name not in names:
            yield _unknown_metric(metric, path, job, names)
            return
    short = metric.name.split("/")[-1]
    better = "min" if short in LOWER_IS_BETTER or short.endswith("_loss") else "max"
    if metric.mode != better:
        yield Problem((*path, "mode"), f"must be {better}: {metric.name} is better {_WHICH[better]}", metric.mode)
    if not metric.insist and (why := _not_comparable(short, jobs, searched)):
        rule = f"is not comparable between trials: {why}; metric.insist: true takes it all the same"
        yield Problem((*path, "name"), rule, metric.name)


_WHICH = {"min": "the lower it is", "max": "the higher it is"}


def _unknown_metric(metric: MetricOptions, path: tuple[str | int, ...], job: TrialJob, names: Sequence[str]) -> Problem:
    hint, nearest = "", next(iter(get_close_matches(metric.name, names, 1)), None)
    if metric.name.startswith("test/") and isinstance(job, FinetuneJob) and job.cv is None:
        hint = " (the test set is for the end: searching on it would spoil it; cv gives every fold's)"
    return Problem((*path, "name"), f"must be one of {', '.join(names)}{hint}", metric.name, nearest)


def _not_comparable(short: str, jobs: Sequence[TrialJob], searched: set[str]) -> str:
    """Why a metric says another thing in each trial, "" where it does not."""
    if not jobs or short in FACTS:
        return ""
    is_pretraining = isinstance(jobs[0], PretrainJob)
    vocabulary = sorted(path for path in searched if path.startswith("tokenizer."))
    per_token = is_pretraining or getattr(jobs[0].task, "level", "") == "token"  # type: ignore[union-attr]
    is_of_tokens = short != "bits_per_byte" if is_pretraining else short == "loss"
    if vocabulary and per_token and is_of_tokens:
        instead = "valid/bits_per_byte" if is_pretraining else "the task's own metrics"
        return f"{vocabulary[0]} is searched, and smaller vocabularies have easier tokens; take {instead}"
    masking = sorted(path for path in searched if path in HOW_TO_HIDE)
    if masking and is_pretraining and short not in ("nsp_loss", "nsp_accuracy", "relative_discriminator_loss"):
        return f"{masking[0]}, which is searched, decides how hard the hidden tokens are to tell"
    weights = sorted(path for path in searched if path.startswith("objective.") and path.endswith("_weight"))
    smoothing = sorted(searched & {"task.label_smoothing", "task.class_weights"})
    if short == "loss" and (weights or smoothing):
        return f"{(weights or smoothing)[0]}, which is searched, changes what the loss is"
    return ""
