"""The command line of fine-tuning, of one job or of a suite, and what it prints."""

import math
from collections.abc import Sequence
from pathlib import Path

from reforge.distributed.arguments import guarded, say, spec_and_overrides, spec_parser
from reforge.distributed.cluster import Resources, find_resources, fits
from reforge.distributed.command import show_dry_run, tensorboard_command
from reforge.distributed.finetune import dry_run_of_finetuning, run_jobs
from reforge.runs.encoder import open_encoder
from reforge.runs.finetune_job import EncoderOptions, FinetuneJob
from reforge.runs.job import RunOptions
from reforge.runs.members import Summary, finished
from reforge.runs.store import check_storage
from reforge.runs.suite import SuiteJob
from reforge.runs.suite_table import keep_table
from reforge.spec import Source, UserError, load_source, render, validate


def finetune_command(default_spec: Path, arguments: Sequence[str] | None = None) -> int:
    """`python jobs/finetune.py [SPEC] [key.path=value ...] [--render | --dry-run]`; the process's exit code."""
    return guarded(
        lambda: _finetune(default_spec, arguments), interrupted="the same command goes on from the newest checkpoint"
    )


def _finetune(default_spec: Path, arguments: Sequence[str] | None) -> None:
    parser = spec_parser("Fine-tune an encoder on a labelled set, or on a suite of them.", default_spec)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--render", action="store_true", help="print the fully resolved spec and stop")
    mode.add_argument("--dry-run", action="store_true", help="take two steps, report sizes and memory, stop")
    options = parser.parse_intermixed_args(arguments)
    path, overrides = spec_and_overrides(options.words, default_spec)
    source = load_source(path, overrides)
    if options.render:
        print(render(validate(_kind(source), source)), end="")
        return
    resources = find_resources()
    if options.dry_run:
        _dry_run(source, resources)
    elif _kind(source) is SuiteJob:
        _suite(source, path.parent, resources)
    else:
        _job(source, resources)


def _kind(source: Source) -> type[FinetuneJob] | type[SuiteJob]:
    return SuiteJob if source.data.get("kind") == "suite" else FinetuneJob


def _job(source: Source, resources: Resources) -> None:
    check = fits(resources)
    job = validate(FinetuneJob, source, checks=[lambda job: check(job.scale)])
    check_storage(job.run.folder)
    _check_encoder(job.encoder, job.run)
    if finished(job) is not None:
        say(f"{job.folder} is finished; name=... starts another run")
    [summary] = run_jobs({"": job}, resources, say).values()
    show_summary(job, summary)


def _dry_run(source: Source, resources: Resources) -> None:
    if _kind(source) is SuiteJob:
        raise UserError("--dry-run is for one job, and this is a suite: give it the spec of one of its fine-tunings")
    check = fits(resources)
    job = validate(FinetuneJob, source, checks=[lambda job: check(job.scale)])
    _check_encoder(job.encoder, job.run)
    show_dry_run(dry_run_of_finetuning(job, resources))


def _suite(source: Source, beside: Path, resources: Resources) -> None:
    check = fits(resources)
    suite = validate(SuiteJob, source, checks=[lambda suite: check(suite.scale)])
    runs = suite.jobs(beside)
    check_storage(suite.run.folder)
    _check_encoder(suite.encoder, suite.run)
    summaries = run_jobs({label: run.job for label, run in runs.items()}, resources, say)
    print(keep_table(suite, [(run, summaries[label]) for label, run in runs.items()], beside))
    print(f"table              {suite.folder / 'results.md'}")


def _check_encoder(encoder: EncoderOptions, run: RunOptions) -> None:
    """Raise UserError where the run is not there, before anything takes time."""
    if encoder.run is not None:
        open_encoder(encoder.run, run.copies)


def show_summary(job: FinetuneJob, summary: Summary) -> None:
    """Print a finished job's figures and where to look next."""
    first = next(iter(summary.members.values()))
    counts = ", ".join(f"{count:,} {name}" for name, count in first.num_examples.items() if count)
    trained = (
        f"{first.num_trainable:,} of them trained" if first.num_trainable < first.num_parameters else "all trained"
    )
    print(f"\nexamples           {counts}")
    print(f"parameters         {first.num_parameters:,}, {trained}")
    if len(summary.members) == 1:
        print(f"finished           step {first.step:,} (epoch {first.epochs:g}), best at step {first.best_step:,}")
    else:
        print(f"finished           {len(summary.members)} runs in {summary.seconds:,.0f} s: mean ± standard deviation")
    for name, value in summary.mean.items():
        spread = summary.spread[name]
        print(f"{name:<24} {value:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}"))
    print(f"\nrun                {job.folder}")
    print(f"TensorBoard        {tensorboard_command(job.folder)}")
