"""What ends a trial by its own reports."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from reforge.search.stopping import PlateauOptions, Reached, Stop, StopOptions, ThresholdOptions, stop
from reforge.spec import SpecError, load_source, validate
from reforge.spec.durations import seconds_in


def history(values: Sequence[float], seconds: float = 60.0) -> list[Reached]:
    """Reports that are `seconds` apart."""
    return [Reached(number, value, number * seconds) for number, value in enumerate(values, start=1)]


def first_stop(options: StopOptions, values: Sequence[float], mode: str = "max") -> tuple[int, str, str] | None:
    """(report, outcome, why) of the first stop, as a trial that reports one value after the other meets it."""
    reports = history(values)
    for number in range(1, len(values) + 1):
        found = stop(options, mode, reports[:number])  # type: ignore[arg-type]
        if found is not None:
            return number, found.outcome, found.why
    return None


@pytest.mark.parametrize(
    ("values", "min_delta", "report"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.0, None),
        ([0.5, 0.4, 0.4, 0.6], 0.0, 3),
        ([0.1, 0.5, 0.5, 0.5], 0.0, 4),  # as good is not better
        ([0.5, 0.4, 0.6, 0.5, 0.5], 0.0, 5),
        ([0.5, 0.504, 0.508, 0.6], 0.01, 3),
        ([0.5, 0.508, 0.516, 0.524, 0.532], 0.01, None),  # slowly, but beyond min_delta every second time
        ([math.nan, math.nan, 0.5], 0.0, 2),
    ],
)
def test_patience_finishes_a_trial_that_gets_no_better(
    values: list[float], min_delta: float, report: int | None
) -> None:
    options = StopOptions(patience=2, min_delta=min_delta, nan=False)
    found = first_stop(options, values)
    assert (found and found[:2]) == (report and (report, "finished"))
    assert (first_stop(options, [-value for value in values], "min") or [None])[0] == report


def test_patience_says_how_long_it_waited() -> None:
    assert first_stop(StopOptions(patience=2), [3, 2, 1]) == (3, "finished", "patience: no better report in 2")
    why = "patience: no better report in 1, by 0.5"
    assert first_stop(StopOptions(patience=1, min_delta=0.5), [3, 3.5]) == (2, "finished", why)


def test_a_flat_curve_finishes() -> None:
    options = StopOptions(plateau=PlateauOptions(reports=3, spread=0.01))
    assert first_stop(options, [0.1, 0.3, 0.305, 0.3, 0.9]) == (
        4,
        "finished",
        "plateau: the last 3 reports lie within 0.01",
    )
    assert first_stop(options, [0.1, 0.12, 0.14, 0.16]) is None
    assert first_stop(options, [0.1, 0.1]) is None
    assert first_stop(options, [5, 3, 3, 3], "min") == (4, "finished", "plateau: the last 3 reports lie within 0.01")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_diverged_at_once(value: float) -> None:
    wanted = (2, "diverged", f"the metric is {value} at report 2")
    assert first_stop(StopOptions(), [0.5, value, 0.6]) == wanted
    assert first_stop(StopOptions(max_reports=2), [0.5, value]) == wanted
    assert first_stop(StopOptions(nan=False), [0.5, value, 0.6]) is None


def test_who_has_not_reached_a_threshold_in_time_is_pruned() -> None:
    options = StopOptions(threshold=ThresholdOptions(after="3m", value=0.6))
    assert first_stop(options, [0.1, 0.2, 0.3, 0.9]) == (3, "pruned", "threshold: 0.3 after 3m, not 0.6")
    assert first_stop(options, [0.1, 0.6, 0.3, 0.2]) is None  # it was reached
    assert first_stop(options, [0.1, 0.2]) is None
    assert first_stop(options, [0.9, 0.8, 0.7], "min") == (3, "pruned", "threshold: 0.7 after 3m, not 0.6")
    assert first_stop(options, [0.9, 0.5, 0.7], "min") is None
    assert first_stop(options.model_copy(update={"nan": False}), [math.nan] * 3) == (
        3,
        "pruned",
        "threshold: nan after 3m, not 0.6",
    )


def test_a_trial_has_its_limits() -> None:
    assert first_stop(StopOptions(max_reports=2), [1, 2, 3]) == (2, "finished", "max_reports: report 2")
    assert first_stop(StopOptions(max_time="90s"), [1, 2, 3]) == (
        2,
        "finished",
        "max_time: 90s are over at report 2",
    )


def test_what_ends_a_trial_comes_before_what_prunes_it() -> None:
    options = StopOptions(max_reports=3, threshold=ThresholdOptions(after="3m", value=0.6))
    assert stop(options, "max", history([0.1, 0.2, 0.3])) == Stop("finished", "max_reports: report 3")


def test_a_trial_without_reports_goes_on() -> None:
    assert stop(StopOptions(patience=1, max_time="0s", max_reports=1), "max", []) is None


def read(tmp_path: Path, text: str) -> StopOptions:
    """The options in a file of this text."""
    path = tmp_path / "search.yaml"
    path.write_text(text)
    return validate(StopOptions, load_source(path))


def test_the_section_is_read(tmp_path: Path) -> None:
    options = read(
        tmp_path,
        "patience: 5\nmin_delta: 1e-3\nplateau: {reports: 4, spread: 0.002}\nnan: true\n"
        "threshold: {after: 10m, value: 0.6}\nmax_time: 1h30m\nmax_reports: 20\n",
    )
    assert options == StopOptions(
        patience=5,
        min_delta=1e-3,
        plateau=PlateauOptions(reports=4, spread=0.002),
        threshold=ThresholdOptions(after="10m", value=0.6),
        max_time="1h30m",
        max_reports=20,
    )
    assert first_stop(StopOptions(), [0.5] * 50) is None


def test_all_that_is_wrong_is_told_together(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, "max_time: 30\nthreshold: {after: 10 minutes, value: .nan}\nplateau: {reports: 1}\n")
    text = str(error.value)
    assert "search.yaml:1: max_time" in text
    assert "search.yaml:2: threshold.value" in text
    assert "search.yaml:3: plateau.reports" in text
    assert "search.yaml:3: plateau.spread" in text
    with pytest.raises(SpecError) as error:
        read(
            tmp_path,
            "min_delta: 0.1\nmax_time: soon\nthreshold: {after: 10 minutes, value: 0.6}\n"
            "max_reports: 3\nplateau: {reports: 4, spread: 0.1}\n",
        )
    text = str(error.value)
    assert "search.yaml:1: min_delta: says what patience takes for better, and there is no patience; got 0.1" in text
    assert "search.yaml:2: max_time: must be a time such as 45s, 30m, 2h or 1h30m; got 'soon'" in text
    assert "search.yaml:3: threshold.after: must be a time such as 45s" in text
    assert "search.yaml:5: plateau.reports: must be at most max_reports (3); got 4" in text
    with pytest.raises(SpecError, match=r"patience: must be below max_reports \(3\); got 3"):
        read(tmp_path, "patience: 3\nmax_reports: 3\n")


def test_times_are_sums_of_their_parts() -> None:
    assert [seconds_in(text) for text in ("45s", "1.5m", "2h", "1h30m", "1d0.5h")] == [45, 90, 7200, 5400, 88_200]
