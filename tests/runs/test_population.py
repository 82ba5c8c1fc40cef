"""Populations of real trials in this process: what one takes over from another, and drivers that die at any moment."""

import json
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from reforge.loop.checkpoint import describe_file
from reforge.runs import links, trial, turn
from reforge.runs.folder import RunFolder
from reforge.spec import SpecError
from reforge.tracking import read_metrics

RATES = (1e-2, 1e-3, 3e-2, 1e-7)  # the last learns nothing
SECTIONS = f"""\
metric: {{name: valid/loss, mode: min}}
space: {{optimizer.lr: {{low: 1.0e-7, high: 1.0e-1, log: true}}, model.dropout: [0.0, 0.1, 0.2]}}
scheduler: {{kind: pbt, interval: 1}}
search:
  num_trials: 4
  sampler: {{kind: random, seed: 1}}
  points_to_evaluate: [{", ".join(f"{{optimizer.lr: {rate:.1e}, model.dropout: 0.1}}" for rate in RATES)}]
"""

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


Searching = Callable[..., Any]  # conftest.py


def validations(trial: Path) -> list[dict[str, float]]:
    rows = [row for row in read_metrics(trial / "metrics.jsonl") if "valid/loss" in row]
    return [
        {name: value for name, value in row.items() if not name.endswith(("seconds", "per_second"))} for row in rows
    ]


def lineage(trial: Path) -> list[dict[str, Any]]:
    file = trial / "lineage.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def digests(checkpoint: Path) -> dict[str, Any]:
    return {path.name: describe_file(path) for path in sorted(checkpoint.iterdir())}


@pytest.mark.slow  # takes seconds
def test_the_worst_trial_goes_on_as_the_best(searching: Searching) -> None:
    searched = searching(SECTIONS)
    run = searched.run()
    kept: dict[int, Any] = {}
    taken: Any = None
    for _ in searched.moments(run, at_once=2):
        for number in range(4):
            checkpoint = searched.trial(number) / "rounds" / "report-0001" / "checkpoints" / "step-00000002"
            if number not in kept and checkpoint.is_dir():
                kept[number] = digests(checkpoint)
        if taken is None and lineage(searched.trial(3)):
            taken = digests(searched.trial(3) / "checkpoints" / "step-00000002")
    records = run.study.trials
    worst = records[3]
    assert [record.outcome for record in records] == ["finished"] * 4
    first = worst.lineage[0]
    assert first.report == 1
    best = min(range(4), key=lambda number: records[number].intermediate[1])
    assert first.donor == best
    assert first.assignment["optimizer.lr"] != RATES[3]
    assert taken == kept[best] != kept[3]
    assert worst.assignment == worst.lineage[-1].assignment
    told = lineage(searched.trial(3))
    assert [line["report"] for line in told] == [each.report for each in worst.lineage]
    assert told[0] == {"report": 1, "step": 2, "donor": best, "assignment": first.assignment}
    # What stands for its first report is what its weights came from; the study knows what it had itself.
    figures = validations(searched.trial(3))
    assert len(figures) == 3
    assert figures[0] == validations(searched.trial(best))[0]
    assert worst.intermediate[1] > figures[0]["valid/loss"]
    assert worst.values == (min(row["valid/loss"] for row in figures),)
    # It goes on at its new rate: after two of six steps, of which the first two warm up.
    lr = read_metrics(searched.trial(3) / "metrics.jsonl")[2]["train/lr"]
    assert lr == pytest.approx(float(first.assignment["optimizer.lr"]))  # type: ignore[arg-type]
    assert not list(searched.options.folder.glob("trials/*/rounds"))


def told(searched: Any) -> list[Any]:
    """What must be equal whatever happened on the way."""
    records = searched.study().trials
    trials = [searched.trial(record.number) for record in records]
    of_study = [(r.outcome, r.values, r.assignment, r.intermediate, r.lineage) for r in records]
    return [*of_study, *map(validations, trials), *map(lineage, trials)]


@pytest.mark.slow  # three searches, one of them started again and again
def test_neither_turns_nor_a_driver_that_dies_at_any_moment_change_anything(searching: Searching) -> None:
    together = searching(SECTIONS, name="together")
    together.drive(at_once=4)
    expected = told(together)
    assert sum(len(each) for each in expected[-4:]) >= 2
    by_turns = searching(SECTIONS, name="by-turns")
    by_turns.drive(at_once=1)
    assert told(by_turns) == expected
    killed = searching(SECTIONS, name="killed")
    starts = 0
    for count in cycle((17, 9, 13)):  # each gets so far
        starts += 1
        driver = killed.moments(killed.run(), at_once=2)
        if len(list(islice(driver, count))) < count:
            break
        driver.close()
    assert starts > 3
    assert told(killed) == expected


@pytest.mark.slow  # a search that is started seven times
def test_a_process_that_dies_while_it_takes_over(searching: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, killed = searching(SECTIONS, name="undisturbed"), searching(SECTIONS, name="killed")
    undisturbed.drive(at_once=2)
    for count in range(6):  # four files of a checkpoint, its figures, the lineage
        with monkeypatch.context() as patch:
            _die_in_takeovers(patch, count)
            with pytest.raises(KeyboardInterrupt):
                killed.drive(at_once=2)
        assert not lineage(killed.trial(3))
    killed.drive(at_once=2)
    assert told(killed) == told(undisturbed)


def _die_in_takeovers(patch: pytest.MonkeyPatch, count: int) -> None:
    """Before the n-th change of a file, as a kill does."""

    def begin(folder: RunFolder, what: turn.Turn) -> None:
        left = [count] if what.takeover else [1000]
        for place, name in ((links.os, "link"), (turn, "write_whole")):
            patch.setattr(place, name, counted(getattr(place, name), left))
        turn.take_over(folder, what)

    def counted(action: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
        def act(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return action(*arguments, **named)

        return act

    patch.setattr(trial, "take_over", begin)


def test_a_damaged_checkpoint_is_not_taken_over(searching: Searching) -> None:
    searched = searching(SECTIONS)
    run = searched.run()
    for moment in searched.moments(run, at_once=2):
        if moment == "asked" and run.study.trials[3].lineage and not lineage(searched.trial(3)):
            for kept in searched.options.folder.glob("trials/*/rounds/report-0001/checkpoints/*/model.safetensors"):
                damaged = kept.with_name("damaged")
                damaged.write_bytes(kept.read_bytes()[:-4])
                damaged.replace(kept)
    records = run.study.trials
    assert [record.outcome for record in records] == ["finished"] * 3 + ["failed"]
    assert "cannot be taken over: step-00000002: model.safetensors has" in records[3].why


@pytest.mark.slow  # trains four models
def test_a_pretraining(searching: Searching) -> None:
    text = SECTIONS.replace("model.dropout", "objective.mask_prob").replace("[0.0, 0.1, 0.2]", "[0.1, 0.15]")
    text = text.replace("mask_prob: 0.1}", "mask_prob: 0.15}").replace("interval: 1", "interval: 2")
    text = text.replace("mode: min", "mode: min, insist: true")
    text += "train: {max_steps: 6, eval_every_steps: 1, checkpoint_every_steps: 6, keep_checkpoints: 1}\n"
    searched = searching(text, base="tiny")
    records = searched.drive(at_once=2)
    assert [record.outcome for record in records] == ["finished"] * 4
    assert [each.report for each in records[3].lineage] in ([2], [2, 4])
    assert len(validations(searched.trial(3))) == 6


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model.dropout: [0.0, 0.1, 0.2]", "model.d_model: [16, 32]", "space.model.d_model: cannot be searched under"),
        ("kind: pbt", "kind: pbt, min_population: 5", "num_trials: must be at least scheduler.min_population (5)"),
        ("search:", "on_oom: shrink_batch\nsearch:", "on_oom: must be prune or fail under pbt"),
        ("search:", "repeat: {seeds: [1, 2]}\nsearch:", "repeat: must be left out under pbt"),
    ],
)
def test_what_a_population_cannot_have(searching: Searching, old: str, new: str, said: str) -> None:
    text = SECTIONS.replace(old, new)
    if "d_model" in new:
        text = text.replace(", model.dropout: 0.1", "")
    with pytest.raises(SpecError) as caught:
        searching(text)
    [problem] = caught.value.problems
    assert said in str(problem)
    assert "s.yaml:" in str(problem)
