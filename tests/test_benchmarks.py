"""The benchmarks run and count right, at sizes that take seconds. What a time is, fails no test."""

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ["--lengths", "128", "--tokens", "256", "--d-model", "64", "--depth", "2", "--num-heads", "1", "--repeats", "1"]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A function from a name to that module of benchmarks/, which find each other as when run as scripts."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.slow  # builds every library's model
@pytest.mark.parametrize(
    ("work", "precision"), [("mlm", "fp32"), pytest.param("causal", "bf16", marks=pytest.mark.long)]
)
def test_every_contender_is_measured_or_says_why_not(
    work: str, precision: str, load: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    file = tmp_path / "figures.json"
    records = load("train_step").main([*TINY, "--work", work, "--precision", precision, "--json", str(file)])
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    names = list(load("comparison").CONTENDERS)
    assert [record["name"] for record in records] == names
    assert len(json.loads(file.read_text())["rows"]) == len(records)
    for record in records:
        if record["seconds"]:
            assert abs(record["first_loss"] - math.log(8000)) < 1
            assert min(record["tokens_per_second"], record["ratio"], record["utilisation"]) > 0
        else:
            assert f"left out: {record['name']}: {record['reason']}" in printed
    measured = {record["name"] for record in records if record["seconds"]}
    assert measured >= {"reformer-pytorch", "torch-encoder"}


@pytest.mark.parametrize("work", ["mlm", "causal"])
@pytest.mark.parametrize(
    "name",
    [
        "reformer-pytorch",
        *(pytest.param(f"hf-{name}", marks=pytest.mark.slow) for name in ("reformer", "bert", "gpt2")),
        "torch-encoder",
        "reforge-reformer",
        "reforge-transformer",
    ],
)
def test_products_are_those_that_torch_counts(name: str, work: str, load: Callable[[str], ModuleType]) -> None:
    """A forward pass's; torch does not count its fused attention kernel on a CPU, nor do we here."""
    size = load("workload").Workload(work, "fp32", 2, 256, d_model=128, depth=2, num_heads=2)
    data = load("workload").make_data(size)
    try:
        contender = load("comparison").CONTENDERS[name](size, data)
    except load("peers").Unavailable as unavailable:
        pytest.skip(str(unavailable))
    products = contender.products
    fused = products.hash_columns == 0
    attention = 4 * size.num_tokens * products.attention_width * sum(products.keys) if fused else 0
    num_logits = size.num_targets if name.startswith("reforge") else size.num_tokens
    expected = products.forward_flops(size, num_logits) + products.hash_flops(size) - attention
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        contender.loss()
    assert counter.get_total_flops() == expected


def test_keys_of_a_window_are_counted_one_by_one(load: Callable[[str], ModuleType]) -> None:
    size = load("workload").Workload("mlm", "fp32", 1, 100)
    seen = [sum(-7 <= key - query <= 3 for key in range(100)) for query in range(100)]
    assert load("products").window_keys(size, before=7, after=3) == sum(seen) / 100


@pytest.mark.slow  # trains for seconds
def test_contenders_take_turns_and_one_without_memory_drops_out(load: Callable[[str], ModuleType]) -> None:
    calls: list[str] = []

    def too_large() -> None:
        calls.append("b")
        raise MemoryError

    contenders = {"a": lambda: calls.append("a"), "b": too_large, "c": lambda: calls.append("c")}
    seconds = load("timing").take_turns(contenders, 2, torch.device("cpu"))
    assert "".join(calls) == "abcac"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "c": 2}


@pytest.mark.slow  # imports what it measures
def test_a_contender_over_the_budget_is_left_out(load: Callable[[str], ModuleType]) -> None:
    (record,) = load("train_step").main([*TINY, "--only", "torch-encoder", "--budget-seconds", "0"])
    assert record["reason"].startswith("over the budget")


@pytest.mark.slow  # takes seconds
def test_peak_memory_sees_what_was_held_for_a_moment(load: Callable[[str], ModuleType]) -> None:
    mib = 512  # above anything this process has held before
    peak = load("timing").peak_mib(lambda: torch.ones(mib * 2**18), torch.device("cpu"))
    assert peak > 0.9 * mib


@pytest.mark.slow  # a hundred trials
def test_a_search_that_knows_what_cannot_be_trained_wastes_nothing(load: Callable[[str], ModuleType]) -> None:
    wasted = load("search_infeasible").main(["--seeds", "1", "--trials", "25"])
    assert wasted["ours"] == [0]
    assert wasted["raises"][0] > 5


def replayed(cell: Callable[..., Any], assignment: dict[str, Any]) -> Any:
    """A cell that is the better the higher its learning rate, ten seconds a report, six of them."""
    best = 0.6 + 0.1 * (assignment["optimizer.lr"] == 1.6e-3) + 0.02 * (assignment["encoder.trainable_layers"] == "all")
    reports = tuple(
        {"step": 30 * number, "value": best - 0.1 / number, "seconds": 10.0 * number, "wall_seconds": 20.0 * number}
        for number in range(1, 7)
    )
    return cell(json.dumps({"key": "", "assignment": assignment, "reports": reports, "seconds": 61.0}))


def test_searches_are_replayed_on_a_grid_within_a_part_of_its_compute(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    grid, replay = load("search_grid"), load("search_replay")
    review = "1\t{}\t{}"
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("id\tdocument\tlabel\n" + review.format("good", 1) + "\n")
    space = grid.read_grid(tmp_path, encoder=tmp_path / "encoder").space
    assignments = grid.assignments(space)
    assert len(assignments) == space.size() == 72
    table = replay.Table.of([replayed(grid.Cell.from_json, assignment) for assignment in assignments])
    assert table.seconds == 72 * 61
    assert table.best == pytest.approx(0.72 - 0.1 / 6)
    stopping = replay.CONTENDERS["random, ASHA"]
    found, again = (replay.replay(space, table, stopping, seed=3, budget=0.125 * table.seconds) for _ in range(2))
    assert found == again
    assert 0.6 < found.best <= table.best
    whole = replay.replay(space, table, replay.CONTENDERS["random"], seed=3, budget=0.125 * table.seconds)
    assert 8 <= whole.finished <= 0.125 * 72
    assert found.finished < whole.finished < whole.tried <= whole.finished + 2 < found.tried


def test_a_grid_goes_on_where_it_was_killed(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    grid = load("search_grid")
    line = json.dumps({"key": "k", "assignment": {"a": [3, 4]}, "reports": [], "seconds": 1.0})
    file = tmp_path / "grid.jsonl"
    file.write_text(f"{line}\n{line[:20]}")
    (cell,) = grid.read_cells(file)
    grid.keep_whole_lines(file, [cell])
    assert file.read_text() == f"{line}\n"


def test_the_reviews_of_a_grid_have_texts_and_are_divided(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    rows = ["id\tdocument\tlabel", "1\tfine\t1", "2\t\t0", "3\tdull\t0", "4\twell\t1"]
    (tmp_path / "reviews.txt").write_text("\n".join(rows) + "\n")
    load("search_grid").take_reviews(tmp_path / "reviews.txt", tmp_path, 2, 1)
    assert (tmp_path / "train.txt").read_text().splitlines() == [rows[0], rows[1], rows[3]]
    assert (tmp_path / "valid.txt").read_text().splitlines() == [rows[0], rows[4]]


@pytest.mark.long
@pytest.mark.slow  # a cluster of three nodes, and three trainings
def test_a_little_chaos_leaves_nothing_and_changes_nothing(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    words = ["--minutes", "0.01", "--steps", "80", "--faults", "worker=1", "--json", str(file)]
    count = load("chaos").main(words)
    assert count.is_clean
    assert count.runs == 1
    assert count.recoveries == count.faults["worker"] >= 1
    assert json.loads(file.read_text())["wrong_steps"] == 0


def test_what_scaling_plans_is_what_its_formulas_say(load: Callable[[str], ModuleType]) -> None:
    plan = load("scaling_plan")
    machines = plan.Machines()
    seven = plan.SIZES[-1]
    assert plan.ring_bytes(100.0, 4) == 150.0
    assert plan.step(seven, 64, machines).compute == pytest.approx(6 * 7e9 * 4e6 / 64 / 160e12)
    # Inside a node 7/8 of twice the gradients at 200 GB/s, between eight at 50 GB/s, and 14 + 14 hops.
    assert plan.step(seven, 64, machines).reduce == pytest.approx(49e9 / 200e9 + 49e9 / 50e9 + 28e-5)
    assert plan.best_interval(42.0, 1024, machines) == pytest.approx(math.sqrt(2 * 42 * 5000 * 3600 / 128))
    alone = plan.step(seven, 8, machines)
    assert 0 < alone.without_overlap < alone.with_overlap == 1
    assert "| 7 B | 28.00 | 28.00 | 56.00 |" in plan.report(machines)


def test_rays_share_is_that_of_the_rounds(load: Callable[[str], ModuleType]) -> None:
    rounds = {"plain 2": [1.0, 2.0], "Ray 2": [1.01, 2.2]}
    assert load("scaling").shares_of(rounds, "Ray 2") == pytest.approx([0.01, 0.1])
    assert load("scaling").shares_of(rounds, "plain 2") == []


@pytest.mark.long  # starts Ray three times
def test_steps_and_the_start_of_a_job_are_timed(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    scaling, file = load("scaling"), tmp_path / "figures.json"
    tiny = ["--rounds", "1", "--steps", "3", "--repeats", "1", "--d-model", "32", "--depth", "2", "--tokens", "256"]
    figures = scaling.main(["steps", *tiny, "--json", str(file)])
    assert json.loads(file.read_text()) == figures
    assert all(seconds > 0 for [seconds] in figures["rounds"].values())
    assert sum(figures["sent"]["bucket_bytes"]) == figures["sent"]["gradient_bytes"] > 0
    [started] = scaling.main(["start", "--rounds", "1"])["trees"]["here"]
    assert sum(started["stages"]) == pytest.approx(started["seconds"])
    assert {"driver", "TrainController"} <= started["cpu"].keys()
