"""The event files are read back with TensorBoard's own readers.

There are two: EventAccumulator, which scripts use, never drops a text that was written again, while the one behind
TensorBoard's pages does, and holds curves as tensors too. They tell a restart by different signs.
"""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from reforge.loop import patience
from reforge.tracking import TensorBoardSink


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def pages(folder: Path) -> plugin_event_accumulator.EventAccumulator:
    events = plugin_event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    events.Reload()
    return events


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    return [
        (point.step, point.tensor_proto.string_val[0].decode())
        for point in pages(folder).Tensors(f"{tag}/text_summary")
    ]


def train(sink: TensorBoardSink, first: int, last: int, offset: float) -> None:
    for step in range(first, last + 1):
        sink.scalars(step, {"train/loss": step + offset, "train/lr": 0.5})
        if step % 10 == 0:
            sink.text(step, "samples", f"step {step}, offset {offset}")


def test_a_resumed_run_has_each_step_once_and_the_later_value(tmp_path: Path) -> None:
    killed = TensorBoardSink(tmp_path, purge_step=None)
    train(killed, 1, 30, offset=0.25)
    killed.flush()  # never closed: the process was killed here, ten steps after its last checkpoint
    resumed = TensorBoardSink(tmp_path, purge_step=21)
    train(resumed, 21, 50, offset=0.75)
    resumed.close()

    assert len(list(tmp_path.glob("events.*"))) == 2
    events = read(tmp_path)
    for name in ("train/loss", "train/lr"):
        assert [point.step for point in events.Scalars(name)] == list(range(1, 51))
        assert [point.step for point in pages(tmp_path).Tensors(name)] == list(range(1, 51))
    assert [point.value for point in events.Scalars("train/loss")] == [
        step + (0.25 if step <= 20 else 0.75) for step in range(1, 51)
    ]
    assert texts(tmp_path, "samples") == [
        (step, f"step {step}, offset {0.25 if step <= 20 else 0.75}") for step in (10, 20, 30, 40, 50)
    ]


def test_an_event_cut_short_by_a_kill_does_not_hide_the_resumed_curve(tmp_path: Path) -> None:
    killed = TensorBoardSink(tmp_path, purge_step=None)
    train(killed, 1, 8, offset=0.0)
    killed.close()
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-7])
    resumed = TensorBoardSink(tmp_path, purge_step=6)
    train(resumed, 6, 9, offset=0.5)
    resumed.close()

    assert [(point.step, point.value) for point in read(tmp_path).Scalars("train/loss")] == [
        *((step, step) for step in range(1, 6)),
        *((step, step + 0.5) for step in range(6, 10)),
    ]


def test_a_run_that_starts_over_drops_everything(tmp_path: Path) -> None:
    first = TensorBoardSink(tmp_path, purge_step=None)
    first.text(0, "spec", "old")
    train(first, 1, 5, offset=0.0)
    first.close()
    again = TensorBoardSink(tmp_path, purge_step=None)
    again.text(0, "spec", "new")
    train(again, 1, 2, offset=0.5)
    again.close()

    assert [point.value for point in read(tmp_path).Scalars("train/loss")] == [1.5, 2.5]
    assert texts(tmp_path, "spec") == [(0, "new")]


def test_the_tenth_file_of_a_process_is_read_after_the_ninth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that trains trial after trial numbers its files in their names, where "10" stands before "9"."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    for value in (1.0, 2.0):
        sink = TensorBoardSink(tmp_path, purge_step=None)
        sink.scalars(1, {"train/loss": value})
        sink.close()
    assert sorted(path.name[-2:] for path in tmp_path.iterdir()) == [".9", "10"]
    assert [point.value for point in read(tmp_path).Scalars("train/loss")] == [2.0]


def test_flush_makes_points_visible_to_a_reader(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path, purge_step=None)
    sink.scalars(7, {"valid/loss": float("nan")})
    sink.flush()
    (point,) = read(tmp_path).Scalars("valid/loss")
    assert point.step == 7
    assert point.value != point.value, "nan is a result too, and is kept"
    sink.close()


def test_an_image_is_read_back_pixel_for_pixel(tmp_path: Path) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="png")
    sink = TensorBoardSink(tmp_path, purge_step=None)
    sink.image(3, "test/confusion", png.getvalue())
    sink.close()
    (point,) = read(tmp_path).Images("test/confusion")
    assert (point.step, point.height, point.width) == (3, 4, 5)
    with Image.open(io.BytesIO(point.encoded_image_string)) as picture:
        assert (np.asarray(picture) == pixels).all()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the writer that it broke
def test_storage_that_is_gone_for_a_while_costs_no_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.05)
    run, away, said = tmp_path / "run", tmp_path / "away", list[str]()
    sink = TensorBoardSink(run, purge_step=None)
    sink.scalars(1, {"loss": 3.0})
    sink.flush()
    run.rename(away)
    sink.scalars(2, {"loss": 2.0})
    back = threading.Timer(0.3, lambda: away.rename(run))
    back.start()
    sink.flush(said.append)
    back.join()
    sink.scalars(3, {"loss": 1.0})
    sink.close()
    points = read(run).Scalars("loss")
    assert [(point.step, point.value) for point in points] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert len(said) == 1
    assert "the storage is gone" in said[0]
