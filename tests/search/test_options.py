"""The `search:` section as it is written."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from reforge.search.options import SearchOptions
from reforge.search.samplers import SAMPLERS, TPEOptions, build_sampler
from reforge.spec import SpecError, UserError, load_source, validate


def read(tmp_path: Path, text: str) -> SearchOptions:
    """The options in a file of this text."""
    path = tmp_path / "search.yaml"
    path.write_text(text)
    return validate(SearchOptions, load_source(path))


def test_the_section_is_read(tmp_path: Path) -> None:
    options = read(
        tmp_path,
        "sampler: {kind: tpe, seed: 7}\nnum_trials: 40\ntime_budget: 1h30m\non_duplicate: skip\n"
        "points_to_evaluate: [{optimizer.lr: 1e-4, head.kernel_sizes: [3, 4, 5]}]\n"
        "warm_start: {study: earlier, top_k: 5, by: add}\n",
    )
    assert options.sampler == TPEOptions(seed=7)
    assert options.time_budget_seconds == 5400
    assert options.points_to_evaluate == ({"optimizer.lr": 1e-4, "head.kernel_sizes": [3, 4, 5]},)
    assert SearchOptions().time_budget_seconds is None


@pytest.mark.parametrize("written", ["soon", "2", "2 h", "h", "1.5.2h"])
def test_a_time_has_a_unit(written: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"search\.yaml:1: time_budget: must be a time such as 45s, 30m, 2h or 1h30m"):
        read(tmp_path, f"time_budget: '{written}'")


def test_an_unknown_sampler_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean random"):
        read(tmp_path, "sampler: {kind: randon}")


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_is_built_or_says_what_it_needs(kind: str) -> None:
    options = SAMPLERS[kind].model_validate({"kind": kind, "seed": 1})
    if kind == "cmaes" and find_spec("cmaes") is None:
        with pytest.raises(UserError, match="pip install cmaes"):
            build_sampler(options, 3)
    else:
        assert build_sampler(options, 3) is not build_sampler(options, 3)
