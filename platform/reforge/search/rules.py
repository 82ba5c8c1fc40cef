"""What makes a search impossible though each of its options is right by itself."""

from collections.abc import Iterator
from dataclasses import replace

from reforge.search.cells import unlisted
from reforge.search.options import SearchOptions
from reforge.search.points import Violated, point_problems
from reforge.search.samplers import CMAESOptions, GridOptions
from reforge.search.schedulers import HyperbandOptions, JudgingScheduler, NoScheduler, SchedulerOptions
from reforge.search.space import Space
from reforge.search.stopping import StopOptions
from reforge.spec.problem import Problem

_SAMPLER = ("search", "sampler")
_SCHEDULER = ("scheduler",)


def search_problems(options: SearchOptions, num_metrics: int, space: Space, violated: Violated) -> Iterator[Problem]:
    """What does not fit the space or the metrics; paths are relative to the search's spec."""
    why = unlisted(space) if isinstance(options.sampler, GridOptions) else None
    if why is not None:
        yield Problem((*_SAMPLER, "kind"), f"grid needs a space that can be listed: {why}", "grid")
    if isinstance(options.sampler, CMAESOptions) and num_metrics > 1:
        yield Problem((*_SAMPLER, "kind"), "takes one metric only; several need tpe, gp or nsgaii", "cmaes")
    for problem in point_problems(options.points_to_evaluate, space, violated):
        yield replace(problem, path=("search", "points_to_evaluate", *problem.path))


def scheduler_problems(
    scheduler: SchedulerOptions, num_metrics: int, stop: StopOptions | None = None
) -> Iterator[Problem]:
    """What keeps a scheduler from judging anything; paths are relative to the search's spec.

    stop: what ends a trial by itself, None: not known
    """
    if num_metrics > 1 and not isinstance(scheduler, NoScheduler):
        rule = (
            "compares trials by one metric, and none of several comes first: leave the scheduler out "
            "(stop: ends trials still), or search by one metric"
        )
        yield Problem((*_SCHEDULER, "kind"), rule, scheduler.kind)
    limit = None if stop is None else stop.max_reports
    if limit is None:
        return
    if isinstance(scheduler, HyperbandOptions) and scheduler.max_reports > limit:
        yield Problem(
            (*_SCHEDULER, "max_reports"), f"must be at most stop.max_reports ({limit})", scheduler.max_reports
        )
    elif isinstance(scheduler, JudgingScheduler) and scheduler.grace_period >= limit:
        rule = f"must be below stop.max_reports ({limit}), or no trial is judged"
        yield Problem((*_SCHEDULER, "grace_period"), rule, scheduler.grace_period)
