"""The command line of pre-training, and what it prints."""

import sys
from collections.abc import Sequence
from pathlib import Path

from reforge.distributed.arguments import guarded, say, spec_and_overrides, spec_parser
from reforge.distributed.cluster import find_resources, fits, start_importing
from reforge.distributed.prepare import prepare_on_ray
from reforge.runs import DryRun, PretrainJob, PretrainResult, RunFolder, RunStatus
from reforge.runs.store import check_storage
from reforge.spec import load_source, render, validate

GIB = 2**30
RAY_TRAIN = "reforge.distributed.train"  # not imported above: it takes as long as Ray takes to start


def pretrain_command(default_spec: Path, arguments: Sequence[str] | None = None) -> int:
    """`python jobs/pretrain.py [SPEC] [key.path=value ...] [--render | --dry-run]`; the process's exit code."""
    return guarded(
        lambda: _pretrain(default_spec, arguments), interrupted="the same command goes on from the newest checkpoint"
    )


def _pretrain(default_spec: Path, arguments: Sequence[str] | None) -> None:
    parser = spec_parser("Pre-train a language model from a job spec.", default_spec)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--render", action="store_true", help="print the fully resolved spec and stop")
    mode.add_argument("--dry-run", action="store_true", help="prepare, take two steps, report sizes and memory, stop")
    options = parser.parse_intermixed_args(arguments)
    source = load_source(*spec_and_overrides(options.words, default_spec))
    if options.render:
        print(render(validate(PretrainJob, source)), end="")
        return
    resources = find_resources()
    check = fits(resources)
    job = validate(PretrainJob, source, checks=[lambda job: check(job.scale)])
    folder = RunFolder(job.folder)
    if not options.dry_run:
        check_storage(job.run.folder)
    if options.dry_run:
        prepared = prepare_on_ray(job, resources, say)
        start_importing(resources, RAY_TRAIN)
        from reforge.distributed.train import dry_run_on_ray

        show_dry_run(dry_run_on_ray(job, prepared.folder, resources))
    elif folder.status(job) is RunStatus.FINISHED:
        say(
            f"{job.folder} is finished; name=... starts another run, a larger train.max_steps goes on with this one "
            "(on the learning rates of the longer schedule)"
        )
        show_result(PretrainResult.from_json(folder.read_result()), job.folder)
    else:
        prepared = prepare_on_ray(job, resources, say)
        start_importing(resources, RAY_TRAIN)
        from reforge.distributed.train import train_on_ray

        show_result(train_on_ray(job, prepared.folder, resources), job.folder)


def show_dry_run(run: DryRun) -> None:
    """Print what a dry run found."""
    print(f"device             {run.device}, {run.precision}")
    print(f"parameters         {run.num_parameters:,}")
    for note in run.notes:
        kind, _, why = note.partition(": ")
        print(f"{kind:<18} {why}")
    print(f"training tokens    {run.train_tokens:,}")
    print(f"validation tokens  {run.valid_tokens:,}")
    print(f"loss               {' -> '.join(f'{loss:.3f}' for loss in run.losses)}")
    print(f"speed              {run.tokens_per_second:,.0f} tokens/s")
    print(f"memory estimated   {run.estimated_bytes / GIB:.2f} GiB a worker")
    print(f"memory measured    {run.measured_bytes / GIB:.2f} GiB a worker")


def show_result(result: PretrainResult, folder: Path) -> None:
    """Print a finished run's figures, samples and where to look next."""
    metrics = result.metrics
    size = f"{result.tokens_seen:,} tokens, {result.num_parameters:,} parameters"
    print(f"\nfinished           step {result.step:,}, {size}")
    for name, value in metrics.items():
        label = "validation loss" if name == "loss" else name.replace("_", " ")
        print(f"{label:<18} {value:.{1 if name == 'perplexity' else 3}f}")
    for sample in result.samples:
        print(f"\n  {sample.text}\n  {sample.outcome}")
    print(f"\nrun                {folder}")
    print(f"TensorBoard        {tensorboard_command(folder)}")


def tensorboard_command(folder: Path) -> str:
    """The command that shows the run's curves, beside the Python that runs this job."""
    beside = Path(sys.executable).with_name("tensorboard")
    program = beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside
    return f"{program} --logdir {folder / 'tensorboard'}"
