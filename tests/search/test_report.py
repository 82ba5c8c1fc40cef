"""The report of a search opens without a network, has every section or says why not, and shows text as text."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reforge.search.dimension import Choice, Dimension, Range
from reforge.search.options import MetricOptions, SearchOptions
from reforge.search.report import write_report
from reforge.search.report.drawing import mark_parameter, picture, plain
from reforge.search.report.findings import Parameter, findings
from reforge.search.report.importances import measure
from reforge.search.report.limits import limits
from reforge.search.samplers import RandomOptions
from reforge.search.space import Space
from reforge.search.study import Study, Suggestion

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

ACCURACY = MetricOptions(name="valid/accuracy")
SPEED = MetricOptions(name="tokens_per_second")
MEMORY = MetricOptions(name="memory_gib", mode="min")
EVIL = "<script>alert('1')</script> & $x^2$ \x1b[0m \ud800 나쁜"
SECTIONS = {
    "Summary",
    "History",
    "Parameter importances",
    "Parallel coordinates",
    "Slices",
    "Contour",
    "Early stopping",
    "Trial timeline",
    "Pareto front",
    "Trials",
    "Spec",
}
SPACE = """\
  model.d_model: [64, 96, 100]
  model.num_heads: [4, 5]
  optimizer.lr: {low: 1e-5, high: 1e-2, log: true}
  head:
    kind: [cnn, linear]
    when: {cnn: {kernel_sizes: [[3, 4, 5], [2, 3]], dropout: {low: 0.1, high: 0.6, step: 0.1}}}
"""


class Page(HTMLParser):
    """What stands in a page: text and pictures by section, rows of the big table, references."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: dict[str, str] = {}
        self.pictures: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.references += [
            known[name] or "" for name in ("href", "src", "xlink:href", "data", "action") if name in known
        ]
        self.ids += [known["id"] or ""] if "id" in known else []
        if tag == "svg":
            self.pictures.setdefault(self._section, []).append(known.get("aria-label") or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "link", "br", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "h2":
            self._section = data
        self.text[self._section] = self.text.get(self._section, "") + data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def of_trial(self, number: int) -> dict[str, str]:
        """The row of the big table by its columns."""
        head = next(row for row in self.rows if row[:2] == ["trial", "outcome"])
        return next(
            dict(zip(head, row, strict=True)) for row in self.rows[self.rows.index(head) + 1 :] if row[0] == str(number)
        )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Page]:
    """Study -> its report, which is checked for what every report must be."""

    def page(study: Study, *metrics: MetricOptions, title: str = "cnn-cls") -> Page:
        path = tmp_path / "report.html"
        write_report(path, study, metrics or [ACCURACY], title, "name: <b>cnn</b>\n", {"cpus": 2, "gpus": 0.5})
        text = path.read_text(encoding="utf-8")
        found = Page(text)
        assert found.text.keys() >= SECTIONS
        assert "://" not in text
        assert "url(" not in text.replace("url(#", "")
        assert all(reference.startswith("#") for reference in found.references)
        assert {reference[1:] for reference in found.references} <= set(found.ids)
        assert len(found.ids) == len(set(found.ids))
        assert found.tags.count("script") == 1
        assert {"b", "img", "link", "iframe"}.isdisjoint(found.tags)
        assert "mathdefault" not in text
        assert "name: <b>cnn</b>" in found.text["Spec"]
        return found

    return page


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Study]:
    def study(space: Space, *metrics: MetricOptions, num_trials: int = 40, **known: Any) -> Study:
        options = SearchOptions(num_trials=num_trials, sampler=RandomOptions(seed=2), max_failed_trials=99)
        return Study("s", space, options, metrics or (ACCURACY,), str(tmp_path / "study.journal"), **known)

    return study


def accuracy(assignment: Mapping[str, Any]) -> float:
    """Best at lr 1e-3 with the CNN head."""
    return 0.9 - 0.1 * abs(math.log10(assignment["optimizer.lr"]) + 3) - 0.1 * (assignment["head.kind"] != "cnn")


def ask(study: Study) -> Suggestion:
    suggestion = study.ask()
    assert suggestion is not None
    return suggestion


def test_every_outcome_is_shown_and_what_users_wrote_is_text(
    compiled: Any, start: Callable[..., Study], write: Callable[..., Page]
) -> None:
    space = compiled(SPACE, "model.d_model % model.num_heads == 0").space
    study = start(space, violated=lambda a: ["too large"] if a["optimizer.lr"] > 3e-3 else [])
    for index in range(13):
        suggestion = ask(study)
        value = accuracy(suggestion.assignment)
        for report in (1, 2, 3):
            study.report(suggestion.number, report, value * report / 4)
        study.measured(suggestion.number, {"peak_memory_gib": 1.25})
        if index in (4, 5):
            study.prune(suggestion.number, "asha: below the best third")
        elif index == 6:
            study.fail(suggestion.number, EVIL, f"Traceback\n{EVIL}")
        elif index == 7:
            study.infeasible(suggestion.number, "out of memory")
        elif index == 8:
            study.finish(suggestion.number, math.nan)
        elif index != 12:
            study.finish(suggestion.number, value)
    page = write(study, title=EVIL)
    assert set(page.pictures) == {"History", "Parallel coordinates", "Slices", "Early stopping", "Trial timeline"}
    assert "at least 8 finished trials, there are 7" in page.text["Parameter importances"]
    assert len(page.pictures["Slices"]) == len(space.dimensions) == 5
    assert "One metric has one best trial" in page.text["Pareto front"]
    assert "2 trials were stopped early, after 3.0 reports on average" in page.text["Early stopping"]
    (best,) = study.best
    assert f"The best is trial {best.number}." in page.text["Summary"]
    assert ["head.kind", "cnn"] in page.rows
    for outcome in ("finished", "pruned", "diverged", "failed", "infeasible", "running"):
        assert f" {outcome}" in page.text["Summary"]
    assert "% on pruned trials" in page.text["Summary"]
    assert "GPU hours" in page.text["Summary"]
    for trial in study.trials:
        row = page.of_trial(trial.number)
        assert row["outcome"].removesuffix(", free") == trial.outcome
        assert row["head.kernel_sizes"] == str(trial.assignment.get("head.kernel_sizes", ""))
        assert row["model.d_model"] == str(trial.assignment["model.d_model"])
        assert row["why"].startswith(trial.why[:8])
    failed = next(trial for trial in study.trials if trial.outcome == "failed")
    shown = page.of_trial(failed.number)["why"]
    assert shown.count("<script>alert('1')</script> & $x^2$ \ufffd[0m \\ud800 나쁜") == 2
    assert page.text[""].count("<script>alert('1')</script>") == 2  # in the title and over the page
    assert page.tags.count("details") == 1


def test_a_search_that_has_not_begun_says_so_everywhere(
    compiled: Any, start: Callable[..., Study], write: Callable[..., Page]
) -> None:
    page = write(start(compiled(SPACE).space))
    assert page.pictures == {}
    assert "No trial has finished yet." in page.text["Summary"]
    assert "importances need at least 8 finished trials, there are 0" in page.text["Parameter importances"]
    for section in SECTIONS - {"Summary", "Pareto front", "Trials", "Spec"}:
        assert "Nothing to show" in page.text[section]
    assert "No trials yet." in page.text["Trials"]


@pytest.mark.parametrize("is_finished", [True, False])
def test_one_trial(is_finished: bool, compiled: Any, start: Callable[..., Study], write: Callable[..., Page]) -> None:
    study = start(compiled(SPACE).space)
    suggestion = ask(study)
    if is_finished:
        study.finish(suggestion.number, 0.5)
    page = write(study)
    assert set(page.pictures) == ({"History", "Slices", "Trial timeline"} if is_finished else {"Trial timeline"})
    assert "it takes two trials trained to their end" in page.text["Parallel coordinates"]
    assert "are not known (importances need at least 8" in page.text["Contour"]


@pytest.mark.slow  # scikit-learn is imported
def test_importances_and_contour_need_enough_trials(
    compiled: Any, start: Callable[..., Study], write: Callable[..., Page]
) -> None:
    study = start(compiled(SPACE).space)
    for _ in range(20):
        suggestion = ask(study)
        study.finish(suggestion.number, accuracy(suggestion.assignment))
    page = write(study)
    assert len(page.pictures["Parameter importances"]) == len(page.pictures["Contour"]) == 1
    assert "over 20 trials" in page.text["Parameter importances"]


@pytest.mark.slow  # takes seconds
def test_several_metrics_have_a_front(compiled: Any, start: Callable[..., Study], write: Callable[..., Page]) -> None:
    metrics = (ACCURACY, SPEED)
    study = start(compiled("  optimizer.lr: {low: 1e-4, high: 1e-3}\n").space, *metrics, num_trials=7)
    for index in range(7):
        number = ask(study).number
        study.report(number, 1, [0.1, 0.2])
        study.finish(number, [index / 10, 100.0 - index])
    page = write(study, *metrics)
    assert len(page.pictures["Pareto front"]) == 1
    assert [len(page.pictures[name]) for name in ("History", "Parallel coordinates", "Slices")] == [2, 2, 2]
    assert "7 trials form the Pareto front" in page.text["Summary"]
    assert "Optuna keeps no values of reports" in page.text["Early stopping"]


@pytest.mark.slow  # takes seconds
def test_all_trials_alike(start: Callable[..., Study], write: Callable[..., Page]) -> None:
    lr = Dimension("optimizer.lr", Range(1e-4, 1e-3, log=True), paths=("optimizer.lr",))
    size = Dimension("model.depth", Range(1, 4, is_int=True), paths=("model.depth",))
    study = start(Space((lr, size)), num_trials=9)
    for _ in range(9):
        study.finish(ask(study).number, 0.0)
    page = write(study)
    assert "all trials have the same value" in page.text["Parameter importances"]
    assert page.pictures["Parallel coordinates"]


@pytest.mark.slow  # scikit-learn is imported
def test_importances_find_what_matters(compiled: Any, start: Callable[..., Study]) -> None:
    study = start(compiled(SPACE).space)
    for _ in range(40):
        suggestion = ask(study)
        dropout = suggestion.assignment.get("head.dropout", 0.0)
        study.finish(suggestion.number, math.log10(suggestion.assignment["optimizer.lr"]) + dropout)
    shares = {each.name: each for each in measure(findings(study, [ACCURACY]), 0)}
    assert next(iter(shares)) == "optimizer.lr"
    assert shares["optimizer.lr"].num_trials == 40
    assert shares["head.dropout"].num_trials == sum(trial.chosen["head.kind"] == "cnn" for trial in study.trials)
    assert shares["head.dropout"].share > shares["head.kernel_sizes"].share
    assert "head.dropout" not in [name for name, each in shares.items() if each.is_everywhere]


def test_one_trial_that_went_astray_does_not_flatten_the_others() -> None:
    loss = MetricOptions(name="valid/loss", mode="min")
    shown = limits([1.0, 1.1, 1.2, 1.3, 1e6], loss)
    assert 1.3 < shown.high < 3
    assert shown.num_beyond == 1
    assert shown.inside([1e6, 1.1]) == [shown.high, 1.1]
    assert limits([0.1, 0.8, 0.9, 0.95, 0.9], ACCURACY).low > 0.4
    assert limits([0.5], ACCURACY).num_beyond == 0
    assert limits([0.0, 0.0], ACCURACY).low < 0.0 < limits([0.0, 0.0], ACCURACY).high


def test_a_picture_is_small_and_follows_the_page() -> None:
    labels = tuple(f"$값_{index}$ a long <label>" for index in range(12))
    drawn = picture("one", 3, 2, lambda axes: mark_parameter(axes, "x", Parameter("p", labels)))
    assert drawn.svg == picture("one", 3, 2, lambda axes: mark_parameter(axes, "x", Parameter("p", labels))).svg
    assert "currentColor" in drawn.svg
    assert "$값_11$ a" in drawn.svg
    assert re.search(r"\d\.\d{3}", drawn.svg) is None
    assert plain("a" * 20 + "b" * 20, 10) == "aaaaa…bbbb"


@pytest.mark.long
@pytest.mark.slow  # 200 trials of 20 parameters
def test_a_large_search_is_a_page_of_less_than_two_megabytes(
    start: Callable[..., Study], write: Callable[..., Page], tmp_path: Path
) -> None:
    domains = (Range(0.0, 1.0), Range(1e-6, 1.0, log=True), Choice(tuple(map(str, range(40)))))
    dimensions = [Dimension(f"p.o{index}", domains[index % 3], paths=(f"p.o{index}",)) for index in range(20)]
    metrics = (ACCURACY, SPEED, MEMORY)
    study = start(Space(tuple(dimensions)), *metrics, num_trials=200)
    for _ in range(200):
        suggestion = ask(study)
        values = [float(value) for value in suggestion.assignment.values()][:2]
        study.finish(suggestion.number, [values[0], values[1], values[0] - values[1]])
    page = write(study, *metrics)
    assert (tmp_path / "report.html").stat().st_size < 2e6
    assert len(page.pictures["Slices"]) == 60
    assert len(page.pictures["Contour"]) == len(page.pictures["Pareto front"]) == 3
