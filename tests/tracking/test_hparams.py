"""What TensorBoard answers over HTTP to its HParams and scalars pages."""

import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from reforge.tracking import HParamsBoard, Interval, TensorBoardSink

PARAMETERS = {
    "optimizer.lr": Interval(1e-5, 1e-3),
    "model.num_heads": [8, 12],
    "encoder.trainable_layers": [0, 3, "all"],
    "head.kind": ["cnn", "linear"],
    "head.kernel_sizes": [[3, 4, 5], [4, 5, 6, 7]],
    "head.dropout": Interval(0.1, 0.6),
    "data.lowercase": [True, False],
    "optimizer.clip_norm": [None, 1.0],
}
CONDITIONAL = ["head.kernel_sizes", "head.dropout"]
COMMON = {"optimizer.lr": 3e-4, "model.num_heads": 8, "data.lowercase": False, "optimizer.clip_norm": None}
CNN = {
    **COMMON,
    "head.kind": "cnn",
    "head.kernel_sizes": [3, 4, 5],
    "head.dropout": 0.25,
    "encoder.trainable_layers": 3,
}
LINEAR = {**COMMON, "head.kind": "linear", "optimizer.lr": 1e-3, "encoder.trainable_layers": "all"}
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]

Ask = Callable[[str, Any], Any]
Opened = Callable[[Path], Ask]


def board_of(logdir: Path, **more: Any) -> HParamsBoard:
    return HParamsBoard(logdir, {**PARAMETERS, **more}, ["valid/accuracy"], CONDITIONAL)


def trials_of(ask: Ask, columns: list[Any] = ()) -> dict[str, Any]:  # type: ignore[assignment]
    """{name: group} of the page's table, each of one session."""
    request = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": STATUSES, "colParams": list(columns)}
    groups = ask("hparams/session_groups", request).get("sessionGroups", [])
    assert all(len(group["sessions"]) == 1 for group in groups)
    return {group["name"]: group for group in groups}


def shown(group: Any) -> tuple[str, dict[str, float]]:
    """The status of a trial and {metric: value}."""
    values = {value["name"]["tag"]: round(value["value"], 6) for value in group["metricValues"]}
    return group["sessions"][0]["status"].removeprefix("STATUS_").lower(), values


def columns_of(ask: Ask) -> dict[str, Any]:
    return {column["name"]: column for column in ask("hparams/experiment", {})["hparamInfos"]}


def test_every_trial_has_every_parameter_its_metric_its_status_and_its_curves(tmp_path: Path, opened: Opened) -> None:
    board, trials = board_of(tmp_path), tmp_path / "trials"
    for number, values in enumerate([CNN, LINEAR, CNN]):
        board.begin_trial(trials / f"{number:04}", f"{number:04}", values)
        sink = TensorBoardSink(trials / f"{number:04}", None)
        for step, accuracy in ((10, 0.5), (20, 0.75), (30, 0.625)):
            sink.scalars(step, {"train/loss": 1.0, "valid/accuracy": accuracy})
            board.report_trial(trials / f"{number:04}", step, {"valid/accuracy": max(accuracy, 0.75)})
        sink.close()
    board.end_trial(trials / "0000", "0000", CNN, "success", {"valid/accuracy": 0.75}, 30)
    board.end_trial(trials / "0001", "0001", LINEAR, "failure", {"valid/accuracy": math.nan}, 30)
    board.end_trial(trials / "0003", "0003", LINEAR, "success", {"valid/accuracy": 0.5})

    ask = opened(tmp_path)
    found = trials_of(ask)
    assert {name: shown(group) for name, group in found.items()} == {
        "0000": ("success", {"search/valid/accuracy": 0.75}),
        "0001": ("failure", {}),
        "0002": ("running", {"search/valid/accuracy": 0.75}),
        "0003": ("success", {"search/valid/accuracy": 0.5}),
    }
    assert (
        found["0000"]["hparams"]
        == found["0002"]["hparams"]
        == {
            "optimizer.lr": 3e-4,
            "model.num_heads": 8,
            "encoder.trainable_layers": "3",
            "head.kind": "cnn",
            "head.kernel_sizes": "[3, 4, 5]",
            "head.dropout": "0.25",
            "data.lowercase": False,
            "optimizer.clip_norm": "null",
        }
    )
    assert (
        found["0001"]["hparams"]
        == found["0003"]["hparams"]
        == {
            **found["0000"]["hparams"],
            "optimizer.lr": 1e-3,
            "encoder.trainable_layers": "all",
            "head.kind": "linear",
            "head.kernel_sizes": "-",
            "head.dropout": "-",
        }
    )
    curves = ask("scalars/tags", {})
    assert all({"train/loss", "valid/accuracy"} <= set(curves[f"trials/{number:04}"]) for number in range(3))


def test_columns_are_numbers_truths_or_labels(tmp_path: Path, opened: Opened) -> None:
    board_of(tmp_path)
    ask = opened(tmp_path)
    columns = columns_of(ask)
    assert {name: column["type"].removeprefix("DATA_TYPE_") for name, column in columns.items()} == {
        "optimizer.lr": "FLOAT64",
        "model.num_heads": "FLOAT64",
        "encoder.trainable_layers": "STRING",
        "head.kind": "STRING",
        "head.kernel_sizes": "STRING",
        "head.dropout": "STRING",
        "data.lowercase": "BOOL",
        "optimizer.clip_norm": "STRING",
    }
    assert columns["optimizer.lr"]["domainInterval"] == {"minValue": 1e-5, "maxValue": 1e-3}
    assert columns["model.num_heads"]["domainDiscrete"] == [8, 12]
    assert columns["head.kernel_sizes"]["domainDiscrete"] == ["[3, 4, 5]", "[4, 5, 6, 7]", "-"]
    assert columns["data.lowercase"]["domainDiscrete"] == [True, False]
    (metric,) = ask("hparams/experiment", {})["metricInfos"]
    assert (metric["name"]["tag"], metric["displayName"]) == ("search/valid/accuracy", "valid/accuracy")


def test_the_filters_and_orders_of_the_page_work_on_every_column(tmp_path: Path, opened: Opened) -> None:
    board = board_of(tmp_path)
    for number, values in enumerate([CNN, LINEAR]):
        board.end_trial(tmp_path / f"trials/{number}", f"{number}", values, "success", {"valid/accuracy": number / 4})
    ask = opened(tmp_path)
    widest = [_filter(column) for column in columns_of(ask).values()]
    assert set(trials_of(ask, widest)) == {"0", "1"}
    narrow = {"hparam": "head.kernel_sizes", "filterDiscrete": ["-"]}
    assert set(trials_of(ask, [narrow])) == {"1"}
    best_first = {"metric": {"tag": "search/valid/accuracy"}, "order": "ORDER_DESC"}
    assert list(trials_of(ask, [best_first])) == ["1", "0"]


def _filter(column: Any) -> dict[str, Any]:
    """As the page asks when a filter is open as far as it goes."""
    asked = {"hparam": column["name"], "includeInResult": True, "order": "ORDER_ASC"}
    if "domainInterval" in column:
        return {**asked, "filterInterval": column["domainInterval"]}
    if "domainDiscrete" in column:
        return {**asked, "filterDiscrete": column["domainDiscrete"]}
    return {**asked, "filterRegexp": ".*"} if column["type"] == "DATA_TYPE_STRING" else asked


def test_what_is_written_again_is_shown_once_and_as_written_last(tmp_path: Path, opened: Opened) -> None:
    trial = tmp_path / "trials/0004"
    killed = board_of(tmp_path)
    killed.begin_trial(trial, "0004", CNN)
    killed.report_trial(trial, 10, {"valid/accuracy": 0.25})
    again = board_of(tmp_path)  # the driver was killed here
    again.begin_trial(trial, "0004", CNN)
    again.report_trial(trial, 10, {"valid/accuracy": 0.5})
    assert shown(trials_of(opened(tmp_path))["0004"]) == ("running", {"search/valid/accuracy": 0.5})
    again.begin_trial(trial, "0004", LINEAR)
    (group,) = trials_of(opened(tmp_path)).values()
    assert (shown(group), group["hparams"]["head.kind"]) == (("running", {}), "linear")
    again.end_trial(trial, "0004", LINEAR, "failure", {"valid/accuracy": 0.125}, 10)
    again.end_trial(trial, "0004", CNN, "success", {"valid/accuracy": 0.75}, 10)
    (group,) = trials_of(opened(tmp_path)).values()
    assert (shown(group), group["hparams"]["head.kind"]) == (("success", {"search/valid/accuracy": 0.75}), "cnn")


def test_a_driver_killed_between_the_steps_of_an_end_leaves_no_second_session(tmp_path: Path, opened: Opened) -> None:
    trial = tmp_path / "trials/0004"
    board = board_of(tmp_path)
    board.begin_trial(trial, "0004", CNN)
    (running,) = trial.glob("running-*")
    kept = {path.name: path.read_bytes() for path in running.iterdir()}
    board.end_trial(trial, "0004", CNN, "success", {"valid/accuracy": 0.75})
    running.mkdir()
    for name, content in kept.items():
        (running / name).write_bytes(content)
    board_of(tmp_path)
    assert shown(trials_of(opened(tmp_path))["0004"])[0] == "success"


def test_labels_and_parameters_that_come_later_get_their_places(tmp_path: Path, opened: Opened) -> None:
    board = board_of(tmp_path)
    board.end_trial(tmp_path / "trials/0000", "0000", CNN, "success", {})
    later = {**CNN, "head.kind": "crf", "model.num_heads": 16, "model.depth": 3}
    board.end_trial(tmp_path / "trials/0001", "0001", later, "success", {})
    ask = opened(tmp_path)
    columns = columns_of(ask)
    assert columns["head.kind"]["domainDiscrete"] == ["cnn", "linear", "crf"]
    assert columns["model.num_heads"]["domainDiscrete"] == [8, 12, 16]
    assert columns["model.depth"]["type"] == "DATA_TYPE_STRING"
    found = trials_of(ask, [_filter(column) for column in columns.values()])
    assert {name: group["hparams"].get("model.depth") for name, group in found.items()} == {"0000": None, "0001": "3"}


def test_a_number_that_a_trial_has_not_got_is_left_empty(tmp_path: Path, opened: Opened) -> None:
    values = {path: value for path, value in CNN.items() if path != "optimizer.lr"}
    board_of(tmp_path).end_trial(tmp_path / "trials/0000", "0000", values, "success", {})
    assert "optimizer.lr" not in trials_of(opened(tmp_path))["0000"]["hparams"]


@contextmanager
def server(logdir: Path, load_fast: str) -> Iterator[Ask]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--load_fast={load_fast}", "--reload_interval=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", f"--port={port}", *options],
        stderr=subprocess.DEVNULL,
    )

    def ask(path: str, body: Any) -> Any:
        url = f"http://127.0.0.1:{port}/data/plugin/{path}"
        with urlopen(Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})) as answer:
            return json.load(answer)

    try:
        yield ask
    finally:
        process.terminate()
        process.wait()


def wait_for(ask: Ask, expected: dict[str, tuple[str, dict[str, float]]]) -> None:
    last: object = None
    for _ in range(240):
        try:
            last = {name: shown(group) for name, group in trials_of(ask).items()}
        except (URLError, AssertionError) as not_yet:  # not up yet; or between the two steps of an end
            last = not_yet
        if last == expected:
            return
        time.sleep(0.25)
    pytest.fail(f"last: {last}")


@pytest.mark.slow  # starts TensorBoard's server and waits for it to read, twice
@pytest.mark.parametrize("load_fast", ["auto", "false"])
def test_a_server_that_is_open_follows_a_search_and_its_resumption(tmp_path: Path, load_fast: str) -> None:
    board, trial = board_of(tmp_path), tmp_path / "trials/0000"
    board.begin_trial(trial, "0000", CNN)
    board.report_trial(trial, 10, {"valid/accuracy": 0.25})
    sink = TensorBoardSink(trial, None)
    sink.scalars(10, {"valid/accuracy": 0.25})
    sink.flush()
    with server(tmp_path, load_fast) as ask:
        wait_for(ask, {"0000": ("running", {"search/valid/accuracy": 0.25})})
        board.report_trial(trial, 20, {"valid/accuracy": 0.5})
        wait_for(ask, {"0000": ("running", {"search/valid/accuracy": 0.5})})
        board = board_of(tmp_path)  # the driver was killed here
        board.begin_trial(trial, "0000", CNN)
        board.report_trial(trial, 30, {"valid/accuracy": 0.625})
        wait_for(ask, {"0000": ("running", {"search/valid/accuracy": 0.625})})
        sink.scalars(30, {"valid/accuracy": 0.5})
        sink.close()
        board.end_trial(trial, "0000", CNN, "success", {"valid/accuracy": 0.625}, 30)
        board.end_trial(tmp_path / "trials/0001", "0001", {**LINEAR, "head.kind": "crf"}, "failure", {})
        wait_for(ask, {"0000": ("success", {"search/valid/accuracy": 0.625}), "0001": ("failure", {})})
        assert "crf" in columns_of(ask)["head.kind"]["domainDiscrete"]
        assert "valid/accuracy" in ask("scalars/tags", {})["trials/0000"]
