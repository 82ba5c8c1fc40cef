"""Trials wasted in a space half of which cannot be trained: ours, and Optuna's TPE with trials that raise.

    .venv/bin/python benchmarks/search_infeasible.py

No training: a trial's loss is a formula. Of d_model, heads and batch size (12 x 6 x 12 combinations) a trial is
impossible where d_model % heads is not 0 or its memory is above the device's; the sizes near the best loss are the
largest that fit, so a search is drawn to the edge. Wasted are trials, of 100, that were handed out for training and
could not be trained. Contenders:

    raises      optuna.Study.optimize, an impossible trial raises (a failure, which samplers forget)
    pruned      the same, raising TrialPruned
    ours        both rules known beforehand: the constraint, and memory exactly
    ours, 15 %  the estimate of memory is wrong by up to 15 %; what runs out is told by Study.infeasible
    ours, none  no estimate: only the constraint is known beforehand
"""

import argparse
import statistics
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from reforge.search.dimension import Choice, Dimension
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.samplers import TPEOptions
from reforge.search.space import Space
from reforge.search.study import Study

CHOICES: Mapping[str, tuple[int, ...]] = {
    "d_model": tuple(range(192, 960 + 1, 64))[:12],
    "heads": (2, 4, 6, 8, 12, 16),
    "batch": tuple(range(8, 96 + 1, 8)),
}
DEVICE = 32_000  # d_model x batch that still fits


def indivisible(trial: Mapping[str, Any]) -> bool:
    """The constraint."""
    return bool(trial["d_model"] % trial["heads"])


def too_large(trial: Mapping[str, Any]) -> bool:
    """More memory than there is."""
    return bool(trial["d_model"] * trial["batch"] > DEVICE)


def loss(trial: Mapping[str, Any]) -> float:
    """Falls with width, batch size and the number of heads."""
    return float(4 - trial["d_model"] / 960 - trial["batch"] / 96 - 0.3 * trial["heads"] / 16)


def by_optuna(seed: int, trials: int, told_as: type[Exception]) -> tuple[int, float]:
    """Wasted trials and the best loss of Optuna alone."""

    def objective(trial: optuna.Trial) -> float:
        drawn = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items()}
        if indivisible(drawn) or too_large(drawn):
            raise told_as("cannot be trained")
        return loss(drawn)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
    study.optimize(objective, n_trials=trials, catch=(RuntimeError,))
    finished = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return trials - len(finished), min((trial.values[0] for trial in finished), default=float("nan"))


def estimated_size(trial: Mapping[str, Any], error: float) -> float:
    """Of memory, wrong by up to `error`; the same trial is always estimated alike."""
    sign = zlib.crc32(repr(sorted(trial.items())).encode()) / 2**31 - 1
    return float(trial["d_model"] * trial["batch"] * (1 + error * sign))


def by_us(seed: int, trials: int, error: float | None) -> tuple[int, float]:
    """The same of ours. error: of the estimate of memory; None: there is none."""
    space = Space(tuple(Dimension(name, Choice(values), paths=(name,)) for name, values in CHOICES.items()))
    options = SearchOptions(sampler=TPEOptions(seed=seed), num_trials=trials, max_failed_trials=trials)

    def violated(trial: Mapping[str, Any]) -> list[str]:
        rules = {
            "d_model % heads == 0": indivisible(trial),
            "memory": error is not None and estimated_size(trial, error) > DEVICE,
        }
        return [rule for rule, is_broken in rules.items() if is_broken]

    with tempfile.TemporaryDirectory() as folder:
        where = str(Path(folder) / "study.journal")
        study = Study("s", space, options, [MetricOptions(name="loss", mode="min")], where, violated)
        while (suggestion := study.ask()) is not None:
            if suggestion.action != "run":
                continue
            if too_large(suggestion.assignment):
                study.infeasible(suggestion.number, "out of memory")
            else:
                study.finish(suggestion.number, loss(suggestion.assignment))
        (best,) = study.best
        return trials - sum(record.outcome == "finished" for record in study.trials), best.values[0]


CONTENDERS: Mapping[str, Callable[[int, int], tuple[int, float]]] = {
    "raises": lambda seed, trials: by_optuna(seed, trials, RuntimeError),
    "pruned": lambda seed, trials: by_optuna(seed, trials, optuna.TrialPruned),
    "ours": lambda seed, trials: by_us(seed, trials, error=0.0),
    "ours, 15 %": lambda seed, trials: by_us(seed, trials, error=0.15),
    "ours, none": lambda seed, trials: by_us(seed, trials, error=None),
}


def feasible_share() -> float:
    """Of all combinations."""
    drawn = [
        {"d_model": width, "heads": heads, "batch": batch}
        for width in CHOICES["d_model"]
        for heads in CHOICES["heads"]
        for batch in CHOICES["batch"]
    ]
    return sum(not indivisible(trial) and not too_large(trial) for trial in drawn) / len(drawn)


def main(arguments: list[str] | None = None) -> dict[str, list[int]]:
    """Prints a line for each contender; returns the wasted trials of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args(arguments)
    seeds, trials = range(options.seeds), options.trials
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"{feasible_share():.0%} of the space can be trained; wasted of {trials} trials, by seed")
    wasted = {}
    for name, search in CONTENDERS.items():
        results = [search(seed, trials) for seed in seeds]
        wasted[name] = [result[0] for result in results]
        best = statistics.median(result[1] for result in results)
        print(f"{name:10} {' '.join(f'{count:3}' for count in wasted[name])}   median best loss {best:.3f}", flush=True)
    return wasted


if __name__ == "__main__":
    main()
