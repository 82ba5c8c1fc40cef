"""A new study begins with the best of an earlier one, as far as they fit."""

from pathlib import Path
from typing import Any

import pytest

from reforge.search.dimension import Choice, Dimension, Range
from reforge.search.options import MetricOptions, SearchOptions, WarmStartOptions
from reforge.search.samplers import RandomOptions
from reforge.search.space import Space
from reforge.search.study import Study
from reforge.spec import UserError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

LR = Dimension("optimizer.lr", Range(1e-5, 1e-2, log=True), paths=("optimizer.lr",))
DECAY = Dimension("optimizer.weight_decay", Choice((0.0, 0.1)), paths=("optimizer.weight_decay",))
WIDTH = Dimension("model.d_model", Choice((64, 128)), paths=("model.d_model",))
LOSS = MetricOptions(name="valid/loss", mode="min")


def open_study(path: Path, name: str, *dimensions: Dimension, metric: MetricOptions = LOSS, **options: Any) -> Study:
    """A study of random draws."""
    return Study(name, Space(dimensions), SearchOptions(sampler=RandomOptions(), **options), [metric], str(path))


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The journal of a finished study of 8 trials, whose loss is the learning rate."""
    path = tmp_path / "earlier.journal"
    study = open_study(path, "earlier", LR, DECAY, num_trials=8)
    while (suggestion := study.ask()) is not None:
        study.finish(suggestion.number, suggestion.assignment["optimizer.lr"])
    return path


def best_rates(path: Path) -> list[float]:
    """The learning rates of the earlier study, best first."""
    records = open_study(path, "earlier", LR, DECAY, num_trials=8).trials
    return sorted(record.values[0] for record in records if record.values)


def test_the_best_are_trained_first(earlier: Path) -> None:
    options = {"warm_start": WarmStartOptions(study="earlier", top_k=3), "num_trials": 5}
    study = open_study(earlier, "new", LR, WIDTH, **options)
    assert study.notes[0] == "warm start: 3 of the 3 best trials of earlier enqueued"
    assert study.notes[1].endswith("without optimizer.weight_decay, which the space has not")
    rates = []
    while (suggestion := study.ask()) is not None:
        assert "model.d_model" in suggestion.assignment
        rates.append(suggestion.assignment["optimizer.lr"])
        study.finish(suggestion.number, 0.5)
    assert rates[:3] == best_rates(earlier)[:3]
    assert len(rates) == 5
    assert open_study(earlier, "new", LR, WIDTH, **options).notes == ()


def test_values_are_taken_over_for_the_sampler_alone(earlier: Path, tmp_path: Path) -> None:
    warm = WarmStartOptions(study="earlier", storage=str(earlier), top_k=4, by="add")
    study = open_study(tmp_path / "new.journal", "new", LR, DECAY, warm_start=warm, num_trials=3)
    assert [record.outcome for record in study.trials] == ["added"] * 4
    assert [record.values[0] for record in study.trials] == best_rates(earlier)[:4]
    assert study.best == ()
    handed_out = 0
    while (suggestion := study.ask()) is not None:
        study.finish(suggestion.number, 1.0)
        handed_out += 1
    assert handed_out == 3
    assert study.best[0].values == (1.0,)


def test_what_no_longer_fits_is_left_out(earlier: Path, tmp_path: Path) -> None:
    narrow = Dimension("optimizer.lr", Range(best_rates(earlier)[1], 1e-2, log=True), paths=("optimizer.lr",))
    warm = WarmStartOptions(study="earlier", storage=str(earlier), top_k=2, by="add")
    study = open_study(tmp_path / "new.journal", "new", narrow, DECAY, warm_start=warm)
    assert study.notes[0] == "warm start: 1 of the 2 best trials of earlier added"
    assert "left out trial" in study.notes[1]
    assert study.notes[1].endswith("its parameters are not those of the space")


def test_what_there_is_not_is_said(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no study 'other'; it has earlier"):
        open_study(earlier, "new", LR, warm_start=WarmStartOptions(study="other"))
    gone = WarmStartOptions(study="earlier", storage=str(tmp_path / "gone.journal"))
    with pytest.raises(UserError, match=r"gone\.journal: no such file"):
        open_study(tmp_path / "new.journal", "new", LR, warm_start=gone)
    accuracy = MetricOptions(name="valid/accuracy")
    with pytest.raises(UserError, match="use by: enqueue"):
        open_study(earlier, "n", LR, metric=accuracy, warm_start=WarmStartOptions(study="earlier", by="add"))
