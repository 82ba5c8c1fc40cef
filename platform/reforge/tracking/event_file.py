"""Event files of a few summaries, in the file when the call returns: torch's writer is a queue and a thread."""

import time
from collections.abc import Iterable
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

_VERSION = "brain.Event:2"


def write_events(path: Path, values: Iterable[summary_pb2.Summary.Value], step: int = 0) -> None:
    """The file with these values; there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.parent / ".writing"  # a name in which TensorBoard sees no event file
    writing.unlink(missing_ok=True)
    _append(writing, event_pb2.Event(wall_time=time.time(), file_version=_VERSION))
    append_events(writing, values, step)
    writing.replace(path)


def append_events(path: Path, values: Iterable[summary_pb2.Summary.Value], step: int) -> None:
    """The values at the end of a file that was written before."""
    _append(path, event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=values)))


def scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    """One point of a curve, in single precision: TensorBoard's data server shows no other."""
    tensor = tensor_util.make_tensor_proto(value, dtype="float32")
    return summary_pb2.Summary.Value(tag=tag, metadata=create_summary_metadata("", ""), tensor=tensor)


def _append(path: Path, event: event_pb2.Event) -> None:
    writer = RecordWriter(path.open("ab"))
    writer.write(event.SerializeToString())
    writer.close()
