"""How many reports a trial has, as a scheduler is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.trial_length import most_reports, num_reports
from reforge.runs.tune_job import TuneOptions
from reforge.search import Search, compile_search
from reforge.search.schedulers import AshaOptions, MedianOptions
from reforge.spec import Part, load_source

SPACES = Path(__file__).parents[2] / "search_spaces"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search[Any, TuneOptions]]:
    """A function that reads one of the spaces of the embedded data."""

    def load(name: str, job: type[Part], *overrides: str) -> Search[Any, TuneOptions]:
        return compile_search(load_source(SPACES / f"{name}.yaml", overrides, dotted=("space",)), job, TuneOptions)

    return load


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), 4),
        (("train.max_epochs=1.5", "train.evals_per_epoch=3"), 5),
        (("repeat.seeds=[1, 2]",), 2),
        (("cv.folds=3", "repeat.seeds=[1, 2]", "data.test_fraction=0"), 6),
        (("stop.max_reports=3",), 3),
        (("space.train.max_epochs=[2, 8]",), 8),
    ],
)
def test_a_fine_tuning_reports_its_validations_or_its_runs(
    overrides: tuple[str, ...], expected: int, read: Callable[..., Search[Any, TuneOptions]]
) -> None:
    assert most_reports(read("smoke", FinetuneJob, *overrides)) == expected


def test_a_pre_training_reports_its_validations(read: Callable[..., Search[Any, TuneOptions]]) -> None:
    search = read("smoke_pretrain", PretrainJob, "train.max_steps=170")
    assert num_reports(search.job(next(search.space.draws(1, seed=0)))) == most_reports(search) == 5


def test_asha_judges_at_half_a_trial_where_nothing_else_is_said() -> None:
    assert AshaOptions().of_trials(6) == AshaOptions(grace_period=3, max_reports=6)
    assert AshaOptions(grace_period=1).of_trials(6) == AshaOptions(grace_period=1, max_reports=6)
    assert AshaOptions(max_reports=9).of_trials(6) == AshaOptions(grace_period=5, max_reports=9)
    assert MedianOptions().of_trials(6) == MedianOptions()
