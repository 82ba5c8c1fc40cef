"""What makes a search impossible though each of its options is right by itself."""

from collections.abc import Iterator
from dataclasses import replace

from reforge.search.cells import unlisted
from reforge.search.options import SearchOptions
from reforge.search.points import Violated, point_problems
from reforge.search.samplers import CMAESOptions, GridOptions
from reforge.search.space import Space
from reforge.spec.problem import Problem

_SAMPLER = ("search", "sampler")


def search_problems(options: SearchOptions, num_metrics: int, space: Space, violated: Violated) -> Iterator[Problem]:
    """What does not fit the space or the metrics; paths are relative to the search's spec."""
    why = unlisted(space) if isinstance(options.sampler, GridOptions) else None
    if why is not None:
        yield Problem((*_SAMPLER, "kind"), f"grid needs a space that can be listed: {why}", "grid")
    if isinstance(options.sampler, CMAESOptions) and num_metrics > 1:
        yield Problem((*_SAMPLER, "kind"), "takes one metric only; several need tpe, gp or nsgaii", "cmaes")
    for problem in point_problems(options.points_to_evaluate, space, violated):
        yield replace(problem, path=("search", "points_to_evaluate", *problem.path))
