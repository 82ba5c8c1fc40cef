"""New trials with all their parameters, as they would have been drawn had no process ever died."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from reforge.search.parameters import suggest
from reforge.search.records import outcome_of
from reforge.search.samplers import RandomOptions, SamplerOptions, build_sampler
from reforge.search.space import Space
from reforge.search.telling import Teller
from reforge.spec import UserError


class Drawer:
    """Draws from a space for one study.

    half_drawn: numbers of trials that a process had begun to draw when it died; they come first
    Raises UserError where a package that the sampler needs is not installed.
    """

    def __init__(
        self, study: optuna.Study, space: Space, options: SamplerOptions, teller: Teller, half_drawn: Sequence[int]
    ) -> None:
        self._study, self._space, self._options, self._teller = study, space, options, teller
        self._half_drawn = list(half_drawn)
        study.sampler = build_sampler(options, 0)

    def draw(self, cell: Mapping[str, Any] | None, at_random: bool) -> FrozenTrial:
        """The next trial: one half drawn, a point that waits, `cell` where it is given, or the sampler's own."""
        trials = self._study.get_trials(deepcopy=False)
        half_drawn = self._half_drawn.pop(0) if self._half_drawn else None
        waiting = [trial.number for trial in trials if trial.state is TrialState.WAITING]
        if half_drawn is None and not waiting and cell is not None:
            self._study.enqueue_trial(dict(cell))
        number = half_drawn if half_drawn is not None else (waiting or [len(trials)])[0]
        num_infeasible = sum(outcome_of(trial) == "infeasible" for trial in trials)
        options = RandomOptions(seed=self._options.seed) if at_random else self._options

        def reseed(draw: int) -> None:
            self._study.sampler = build_sampler(options, number, draw, num_infeasible)

        reseed(0)
        trial = self._study.ask() if half_drawn is None else optuna.Trial(self._study, self._teller.id_of(number))
        if trial.number != number:
            raise UserError(f"study {self._study.study_name!r} is driven by another process at the same time")
        suggest(trial, self._space, lambda index: reseed(index + 1))
        return self._study.get_trials(deepcopy=False)[number]
