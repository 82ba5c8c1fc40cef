"""Preparation on every CPU that a job may use, and the command that does nothing else."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reforge.batches import Prepared, prepare
from reforge.batches.preparation import REPORT
from reforge.distributed.arguments import guarded, say, spec_and_overrides, spec_parser
from reforge.distributed.cluster import Resources, find_resources, start_if_none
from reforge.distributed.shared_storage import check_nodes
from reforge.distributed.tasks import RayExecutor
from reforge.runs import PrepareJob, PretrainJob
from reforge.spec import Source, load_source, render, validate


def prepare_command(default_spec: Path, arguments: Sequence[str] | None = None) -> int:
    """`python jobs/prepare.py [SPEC] [key.path=value ...] [--render]`; the process's exit code."""
    return guarded(
        lambda: _prepare(default_spec, arguments), interrupted="the same command goes on with the parts that are left"
    )


def prepare_on_ray(job: PrepareJob | PretrainJob, resources: Resources, announce: Callable[[str], None]) -> Prepared:
    """The prepared corpus of a job, made by as many tasks at once as `scale.prepare_workers` says.

    Raises UserError, before anything is made, where a node of the cluster does not see the job's folders.
    """
    check_nodes([("run.prepared", job.run.prepared_root), ("run.storage", job.run.folder)])
    wanted = job.scale.prepare_workers
    num_cpus = resources.num_cpus if wanted == "auto" else min(wanted, resources.num_cpus)
    with RayExecutor(num_cpus, start=lambda: start_if_none(resources)) as run:
        return prepare(job.data, job.tokenizer, job.run.prepared_root, announce, run)


def _prepare(default_spec: Path, arguments: Sequence[str] | None) -> None:
    parser = spec_parser("Prepare the corpus of a job spec: tokenizer and shards.", default_spec)
    parser.add_argument("--render", action="store_true", help="print the fully resolved spec and stop")
    options = parser.parse_intermixed_args(arguments)
    source = load_source(*spec_and_overrides(options.words, default_spec))
    job = validate(_job_kind(source), source)
    if options.render:
        print(render(job), end="")
        return
    prepared = prepare_on_ray(job, find_resources(), say)
    print(f"report             {prepared.folder / REPORT}")
    print(f"prepared           {prepared.folder}")


def _job_kind(source: Source) -> type[PrepareJob] | type[PretrainJob]:
    """A spec of any job can be prepared; one that is for nothing else says kind: prepare."""
    return PrepareJob if source.data.get("kind") == "prepare" else PretrainJob
