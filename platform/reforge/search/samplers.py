"""Optuna's samplers by name, each built anew for every trial.

A sampler that lives as long as a process draws what the number of its earlier draws says, so that a search which is
started again goes another way. Here all that a draw depends on is (seed, number of the trial, parameter) and the trials
in the storage: the same seed gives the same suggestions, however often the process died in between.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from pydantic import Field

from reforge.spec import Part, UserError


class SamplerOptions(Part, ABC):
    """What every sampler has.

    seed: of the sequence of suggestions
    """

    # After so many useless draws in a row chance takes over. One is enough for samplers that do not learn from trials
    # without values: they would suggest what cannot be trained again and again.
    max_draws: ClassVar[int] = 1

    seed: int = Field(0, ge=0)

    @abstractmethod
    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        """The sampler of one draw, where `num_infeasible` earlier trials could not be trained."""


class TPEOptions(SamplerOptions):
    """Tree-structured Parzen estimators (Bergstra et al. 2011).

    multivariate: parameters are drawn together, not one by one (Falkner et al. 2018)
    group: parameters of the same trials form a group, for spaces with conditions; needs multivariate
    constant_liar: a trial that still runs counts as a bad one, so that trials that run together differ
    n_startup_trials: the first are drawn at random; those that cannot be trained do not count
    n_ei_candidates: the best of so many draws is suggested
    """

    max_draws: ClassVar[int] = 10

    kind: Literal["tpe"] = "tpe"
    multivariate: bool = True
    group: bool = True
    constant_liar: bool = True
    n_startup_trials: int = Field(10, ge=0)
    n_ei_candidates: int = Field(24, ge=1)

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=self.multivariate,
            group=self.group and self.multivariate,
            constant_liar=self.constant_liar,
            n_startup_trials=self.n_startup_trials + num_infeasible,
            n_ei_candidates=self.n_ei_candidates,
        )


class RandomOptions(SamplerOptions):
    """Every parameter alone and uniformly, or log-uniformly (Bergstra and Bengio 2012)."""

    kind: Literal["random"] = "random"

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        return RandomSampler(seed=seed)


class GridOptions(SamplerOptions):
    """Every feasible combination once, in an order shuffled by the seed; needs a finite space."""

    kind: Literal["grid"] = "grid"

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        # The study itself hands out the cells: Optuna's GridSampler knows neither conditions nor constraints. What is
        # still drawn is what a partial point leaves open.
        return RandomSampler(seed=seed)


class QMCOptions(SamplerOptions):
    """Low-discrepancy sequences, more even than random (Bergstra and Bengio 2012); made for spaces without conditions.

    sequence: sobol is most even at powers of two
    scramble: randomised by the seed
    """

    max_draws: ClassVar[int] = 10

    kind: Literal["qmc"] = "qmc"
    sequence: Literal["sobol", "halton"] = "sobol"
    scramble: bool = True

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        return optuna.samplers.QMCSampler(
            qmc_type=self.sequence,
            scramble=self.scramble,
            seed=self.seed,  # one sequence for all trials; which of its points is next stands in the storage
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )


class CMAESOptions(SamplerOptions):
    """Covariance matrix adaptation (Hansen 2016), for ranges; choices and conditional parameters are drawn at random.

    n_startup_trials: the first are drawn at random
    population_size: trials a generation; null is CMA-ES's own rule, 4 + 3 ln(number of ranges)
    """

    kind: Literal["cmaes"] = "cmaes"
    n_startup_trials: int = Field(1, ge=0)
    population_size: int | None = Field(None, ge=2)

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        if find_spec("cmaes") is None:
            raise UserError("sampler cmaes needs the package cmaes: pip install cmaes")
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=self.n_startup_trials,
            popsize=self.population_size,
            warn_independent_sampling=False,
        )


class GPOptions(SamplerOptions):
    """A Gaussian process with expected improvement, for few and costly trials; conditional parameters at random.

    n_startup_trials: the first are drawn at random
    """

    kind: Literal["gp"] = "gp"
    n_startup_trials: int = Field(10, ge=0)

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=self.n_startup_trials, warn_independent_sampling=False
        )


class NSGAIIOptions(SamplerOptions):
    """A genetic algorithm for two or three metrics (Deb et al. 2002).

    population_size: trials a generation
    """

    kind: Literal["nsgaii"] = "nsgaii"
    population_size: int = Field(50, ge=2)

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=self.population_size)


class NSGAIIIOptions(SamplerOptions):
    """A genetic algorithm for three metrics and more (Deb and Jain 2014).

    population_size: trials a generation
    """

    kind: Literal["nsgaiii"] = "nsgaiii"
    population_size: int = Field(50, ge=2)

    def build(self, seed: int, num_infeasible: int) -> BaseSampler:
        return optuna.samplers.NSGAIIISampler(seed=seed, population_size=self.population_size)


SAMPLERS: Mapping[str, type[SamplerOptions]] = {
    "tpe": TPEOptions,
    "random": RandomOptions,
    "grid": GridOptions,
    "qmc": QMCOptions,
    "cmaes": CMAESOptions,
    "gp": GPOptions,
    "nsgaii": NSGAIIOptions,
    "nsgaiii": NSGAIIIOptions,
}


def build_sampler(options: SamplerOptions, number: int, draw: int = 0, num_infeasible: int = 0) -> BaseSampler:
    """The sampler of a trial: with `draw` 0 of what is drawn together, with another of a parameter that is drawn alone.

    num_infeasible: earlier trials that could not be trained
    Raises UserError where a package that it needs is not installed.
    """
    seed = int(np.random.SeedSequence([options.seed, number, draw]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` has been one since 2.8
        return options.build(seed, num_infeasible)
