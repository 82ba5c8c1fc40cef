"""A search over a space by asking and telling; what it knows lies in Optuna's storage and nowhere else.

    ask -> draw -> can it be trained? known already? -> Suggestion -> report ... finish | prune | fail | infeasible
            ^          | told as infeasible, or the known values told again; costs nothing
            +----------+

One process drives a study. It may die at any moment: the next one hands out again what was handed out and not told.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from reforge.search.cells import Cells, unlisted
from reforge.search.drawing import Drawer
from reforge.search.identity import identity_of, load_or_create
from reforge.search.judging import Verdict, judge, tried
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.parameters import key_of
from reforge.search.points import Violated, parameters_of
from reforge.search.population import Population
from reforge.search.pruning import Pruning
from reforge.search.records import (
    HANDED_OUT,
    TrialRecord,
    chosen_of,
    free_in_a_row,
    front,
    is_counted,
    last_chosen,
    outcome_of,
    record_of,
)
from reforge.search.rules import scheduler_problems, search_problems
from reforge.search.samplers import GridOptions
from reforge.search.schedulers import NoScheduler, PopulationOptions, SchedulerOptions
from reforge.search.space import Space
from reforge.search.storage import open_storage, reachable
from reforge.search.suggestion import Suggestion
from reforge.search.telling import Teller
from reforge.search.warm_start import warm_start
from reforge.spec import SpecError, UserError

__all__ = ["Study", "Suggestion"]

_PREPARED = "prepared"
_SECONDS_USED = "seconds_used"
_NO_SCHEDULER = NoScheduler()


class Study:
    """A study in a storage, opened by the one process that drives it.

    notes: what a user should know of how it began: what a warm start left out
    ended: why `ask` had nothing more to give, None before
    population: who takes over from whom, None where the scheduler has none do so
    """

    def __init__(
        self,
        name: str,
        space: Space,
        options: SearchOptions,
        metrics: Sequence[MetricOptions],
        storage: str,
        violated: Violated = lambda assignment: (),
        context: Mapping[str, str] | None = None,
        scheduler: SchedulerOptions = _NO_SCHEDULER,
    ) -> None:
        """Creates the study, or goes on with the one of that name.

        storage: a path or URL, `open_storage`
        violated: what keeps an assignment from being trained (constraints, an estimate of memory), [] where nothing
        context: what else its trials must share to be comparable, {"data": a fingerprint}
        scheduler: says which trials should be pruned, `should_prune`
        Raises UserError where the storage cannot be reached or the name belongs to another search, SpecError where
        options and space do not fit.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        problems = list(search_problems(options, len(metrics), space, violated))
        problems += scheduler_problems(scheduler, len(metrics))
        if problems:
            raise SpecError(problems, f"study {name}")
        self.notes: tuple[str, ...] = ()
        self.ended: str | None = None
        self._space, self._options, self._violated, self._where = space, options, violated, storage
        self._cells = Cells(space, options.sampler.seed, violated) if unlisted(space) is None else None
        self._failed: list[int] = []
        kept = open_storage(storage)
        with reachable(storage):
            self._study = load_or_create(kept, name, metrics, identity_of(space, metrics, context or {}))
            self._teller = Teller(self._study, kept)
            self._prepare()
            running = self._trials(TrialState.RUNNING)
            used = float(self._study.user_attrs.get(_SECONDS_USED, 0.0))
            self._unfinished = [trial for trial in running if trial.user_attrs.get(HANDED_OUT)]
            unjudged = [trial.number for trial in self._unfinished]
            self._pruning = Pruning(self._study, scheduler, self._teller, unjudged)
        self.population = None
        if isinstance(scheduler, PopulationOptions):
            seed = options.sampler.seed
            self.population = Population(self._study, scheduler, space, violated, seed, self._teller, storage)
        half_drawn = [trial.number for trial in running if not trial.user_attrs.get(HANDED_OUT)]
        self._drawer = Drawer(self._study, space, options.sampler, self._teller, half_drawn)
        self._began = time.monotonic() - used

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna has it, to be read."""
        return self._study

    @property
    def seconds_used(self) -> float:
        """By this start and all earlier ones."""
        return time.monotonic() - self._began

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every trial, draws that cost nothing among them."""
        with reachable(self._where):
            return tuple(record_of(trial, self._space) for trial in self._trials())

    @property
    def best(self) -> tuple[TrialRecord, ...]:
        """The best finished trial, of several metrics the Pareto front; () where none has finished."""
        with reachable(self._where):
            finished = [trial for trial in self._trials() if outcome_of(trial) == "finished"]
            return tuple(record_of(trial, self._space) for trial in front(finished, self._study.directions))

    @property
    def is_over(self) -> bool:
        """Whether `ask` has nothing more to give, before anything is asked; `ended` says why."""
        with reachable(self._where):
            self.ended = None if self._unfinished else self._reason_to_end()
        return self.ended is not None

    def ask(self) -> Suggestion | None:
        """The next trial; None where the search is at its end, `ended`.

        Raises UserError where more trials have raised than may.
        """
        with reachable(self._where):
            self._check_failed()
            if self._unfinished:
                return self._suggestion(self._unfinished.pop(0), Verdict("run"), resumed=True)
            self.ended = self._reason_to_end()
            if self.ended is None:
                return self._next()
        self._keep_time()
        return None

    def report(self, number: int, step: int, values: float | Sequence[float]) -> None:
        """Keeps what a running trial has reached at a step."""
        with reachable(self._where):
            self._teller.report(number, step, values)

    def should_prune(self, number: int) -> str:
        """Why the scheduler would stop a trial at its last report, "" where it goes on; asked again it says the same.

        To be asked after each report, before another trial reports, and first of all for a trial that is resumed.
        """
        with reachable(self._where):
            return self._pruning.why(number)

    def measured(self, number: int, facts: Mapping[str, float | str]) -> None:
        """Keeps what was measured of a trial beside its metrics; before its end is told."""
        with reachable(self._where):
            self._teller.measured(number, facts)

    def finish(self, number: int, values: float | Sequence[float], why: str = "") -> None:
        """A trial trained to its end. One that is not finite has diverged: told as pruned, so that it is avoided.

        why: what ended it before its own end
        """
        with self._telling():
            self._teller.finish(number, values, why)

    def prune(self, number: int, why: str = "") -> None:
        """A trial was stopped early; the sampler judges it by what it reported last."""
        with self._telling():
            self._teller.prune(number, why)

    def diverge(self, number: int, why: str) -> None:
        """A trial's metric is no number: the sampler learns to avoid it, however far it came."""
        with self._telling():
            self._teller.diverge(number, why)

    def fail(self, number: int, why: str, traceback: str = "") -> None:
        """A trial raised."""
        self._failed.append(number)
        with self._telling():
            self._teller.fail(number, why, traceback)

    def infeasible(self, number: int, why: str) -> None:
        """A trial turned out to be one that cannot be trained (out of memory): the sampler learns to avoid it."""
        with self._telling():
            self._teller.infeasible(number, why)

    def _prepare(self) -> None:
        """What comes before the first draw, once in the life of the study."""
        if _PREPARED in self._study.user_attrs:
            return
        for point in self._options.points_to_evaluate:
            self._study.enqueue_trial(parameters_of(point, self._space), skip_if_exists=True)
        if self._options.warm_start is not None:
            notes = warm_start(self._study, self._options.warm_start, self._where, self._space, self._violated)
            self.notes = tuple(notes)
        self._study.set_user_attr(_PREPARED, True)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _check_failed(self) -> None:
        if len(self._failed) > self._options.max_failed_trials:
            last = self._trials()[self._failed[-1]]
            raise UserError(
                f"{len(self._failed)} trials failed, more than max_failed_trials ({self._options.max_failed_trials}); "
                f"the last, trial {last.number}: {record_of(last, self._space).why}"
            )

    def _reason_to_end(self) -> str | None:
        budget, trials = self._options.time_budget_seconds, self._trials()
        if sum(map(is_counted, trials)) >= self._options.num_trials:
            return f"all {self._options.num_trials} trials are handed out"
        if budget is not None and self.seconds_used >= budget:
            return f"the time budget of {self._options.time_budget} is used up"
        may_repeat = self._options.on_duplicate == "allow" and not isinstance(self._options.sampler, GridOptions)
        if self._cells is None or may_repeat or any(trial.state is TrialState.WAITING for trial in trials):
            return None
        return None if self._untried() else "every combination of the space that can be trained has been tried"

    def _untried(self) -> dict[str, Any] | None:
        if self._cells is None:
            return None
        return self._cells.untried({key_of(trial.params) for trial in tried(self._trials(), self._failed)})

    def _next(self) -> Suggestion:
        """Draws until something is worth training; when the draws are used up, the last one is spent."""
        is_grid = isinstance(self._options.sampler, GridOptions)
        first = free_in_a_row(self._trials())  # of a driver that died in between
        last = max(first, self._options.max_resamples)
        for index in range(first, last + 1):
            cell = self._untried() if is_grid or index == last else None
            trial = self._drawer.draw(cell, at_random=index >= self._options.sampler.max_draws)
            verdict = self._verdict(trial)
            if verdict.action == "skip" and index == last:
                verdict = Verdict("run")
            if verdict.action != "run":
                self._teller.known(trial, verdict, self._options.on_duplicate, is_free=index < last)
            if verdict.action == "run" or index == last:
                return self._suggestion(trial, verdict)
        raise AssertionError("the last draw returns")

    def _verdict(self, trial: FrozenTrial) -> Verdict:
        why = self._violated(self._space.assignment(chosen_of(trial, self._space)))
        return judge(trial, why, tried(self._trials(), self._failed), self._options.on_duplicate)

    def _suggestion(self, trial: FrozenTrial, verdict: Verdict, resumed: bool = False) -> Suggestion:
        assert verdict.action != "skip"
        if not resumed and verdict.action == "run":
            self._teller.hand_out(trial.number)
        chosen = last_chosen(trial, self._space)
        source = None if verdict.earlier is None else verdict.earlier.number
        return Suggestion(
            trial.number, verdict.action, chosen, self._space.assignment(chosen), resumed, verdict.why, source
        )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        self._keep_time()
        with reachable(self._where):
            yield

    def _keep_time(self) -> None:
        with reachable(self._where):
            self._study.set_user_attr(_SECONDS_USED, round(self.seconds_used, 3))
