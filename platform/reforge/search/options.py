"""The `metric:` and `search:` sections of a search's spec."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from reforge.search.samplers import SAMPLERS, SamplerOptions, TPEOptions
from reforge.spec import Part, one_of
from reforge.spec.durations import duration_problems, seconds_in
from reforge.spec.problem import Problem

if TYPE_CHECKING:
    AnySampler = SamplerOptions
else:
    AnySampler = one_of(SAMPLERS)


class MetricOptions(Part):
    """What trials are compared by; a search with several has a Pareto front.

    name: a number that the job reports, "valid/accuracy"
    mode: max or min
    scope: which of a trial's reports counts: the best, the last, or the mean of all
    insist: take it though it says another thing in each trial, as a loss does where the vocabulary is searched
    """

    name: str = Field(min_length=1)
    mode: Literal["max", "min"] = "max"
    scope: Literal["best", "last", "mean"] = "best"
    insist: bool = False


class WarmStartOptions(Part):
    """An earlier study to start from. What no longer fits the space is left out, and said.

    study: its name
    storage: where it lies; null: where the new one does
    top_k: its best trials
    by: enqueue trains them again, first; add takes their values over, for the sampler alone
    """

    study: str = Field(min_length=1)
    storage: str | None = None
    top_k: int = Field(10, ge=1)
    by: Literal["enqueue", "add"] = "enqueue"


class SearchOptions(Part):
    """How the space is searched.

    sampler: draws the trials; its seed is that of the whole sequence
    num_trials: trials that are handed out; draws that cost nothing (infeasible, known already) do not count
    max_concurrent: trials at a time, at most as many as the cluster has room for; auto: as many as that. One at a time
        draws the same trials each time; of several, which one ends first has a say in what is drawn next
    time_budget: no trial starts after it, "30m", "2h" or "1h30m", all starts of the search together; null: no limit
    points_to_evaluate: trials to begin with, {path: value}; what a point leaves out is drawn
    warm_start: an earlier study to start from
    on_duplicate: a draw equal to an earlier trial: reuse tells the sampler that trial's values again, skip forgets the
        draw, both draw again; allow trains it once more
    max_failed_trials: trials that may raise before the search stops
    max_resamples: infeasible or known draws in a row, for one trial, before an untried combination is taken; where none
        can be listed, the trial itself is spent
    """

    sampler: AnySampler = TPEOptions()
    num_trials: int = Field(20, ge=1)
    max_concurrent: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    time_budget: str | None = None
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    warm_start: WarmStartOptions | None = None
    on_duplicate: Literal["reuse", "skip", "allow"] = "reuse"
    max_failed_trials: int = Field(3, ge=0)
    max_resamples: int = Field(50, ge=0)

    def problems(self) -> Iterator[Problem]:
        """A time is a number with its unit."""
        yield from duration_problems(("time_budget",), self.time_budget)

    @property
    def time_budget_seconds(self) -> float | None:
        """The same in seconds."""
        return None if self.time_budget is None else seconds_in(self.time_budget)
