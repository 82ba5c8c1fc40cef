"""What makes a search impossible though each of its options is right by itself."""

import re
from collections.abc import Iterator
from dataclasses import replace

from reforge.search.cells import unlisted
from reforge.search.options import SearchOptions
from reforge.search.points import Violated, point_problems
from reforge.search.samplers import CMAESOptions, GridOptions
from reforge.search.schedulers import (
    HyperbandOptions,
    JudgingScheduler,
    NoScheduler,
    PopulationOptions,
    SchedulerOptions,
)
from reforge.search.space import Space
from reforge.search.stopping import StopOptions
from reforge.spec.problem import Problem

_SAMPLER = ("search", "sampler")
_SCHEDULER = ("scheduler",)
# What may change while weights are trained: neither their shapes nor what they are trained on hang on it.
_CHANGEABLE = re.compile(
    r"""optimizer\.(lr|head_lr|layer_decay|betas|eps|weight_decay|max_grad_norm|schedule\.(kind|final_lr_fraction))
    | (model|encoder|head)\.\w*dropout
    | task\.label_smoothing
    | objective\.(\w+_weight|mask_prob|mask_token_prob|random_token_prob)""",
    re.VERBOSE,
)


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


def population_problems(scheduler: SchedulerOptions, options: SearchOptions, space: Space) -> Iterator[Problem]:
    """What a population's schedule cannot search; paths are relative to the search's spec."""
    if not isinstance(scheduler, PopulationOptions):
        return
    if options.num_trials < scheduler.min_population:
        rule = f"must be at least scheduler.min_population ({scheduler.min_population}): it is the population"
        yield Problem(("search", "num_trials"), rule, options.num_trials)
    paths = [path for dimension in space.dimensions for path in dimension.paths]
    paths += [fixed.path for fixed in space.constants if fixed.when]
    for path in dict.fromkeys(paths):
        if not _CHANGEABLE.fullmatch(path):
            rule = (
                "cannot be searched under pbt: trials take over each other's weights, so that only what may change in "
                "mid-training is searched: optimizer.* but the warm-up's length, dropouts, task.label_smoothing, the "
                "objective's weights and masking; scheduler: asha searches the rest"
            )
            yield Problem(("space", *path.split(".")), rule, place=space.places.get(path))
