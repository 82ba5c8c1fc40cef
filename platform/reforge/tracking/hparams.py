"""The trials of a search as TensorBoard's HParams page shows them.

    logdir/experiment-<digest>/            the columns: every parameter with its values, every metric
    logdir/trials/0007/                    the trial's curves, of the trial itself; after its end what it was and became
    logdir/trials/0007/running-<digest>/   the same until then

A TensorBoard that is open keeps the first description that it reads of a folder. So a description that may change lies
in a folder that goes away with it: what is open then shows the same as one that is started afterwards.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from google.protobuf import struct_pb2  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from reforge.tracking.event_file import append_events, scalar, write_events

MISSING = "-"  # of a parameter that the trial has not got
METRIC_TAG = "search/{}"  # beside the curve of the same name, whose last point need not be the trial's value
FILE = "events.out.tfevents.9999999999.hparams"  # sorts, and so is read, after the curves of its folder


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`."""

    low: float
    high: float


Domain = Sequence[object] | Interval | None  # the values of a choice; a range; labels as they come
Kind = Literal["number", "truth", "label"]
Status = Literal["running", "success", "failure"]

_KINDS = {
    "number": api_pb2.DATA_TYPE_FLOAT64,
    "truth": api_pb2.DATA_TYPE_BOOL,
    "label": api_pb2.DATA_TYPE_STRING,
}
_STATUSES = {
    "running": api_pb2.STATUS_RUNNING,
    "success": api_pb2.STATUS_SUCCESS,
    "failure": api_pb2.STATUS_FAILURE,
}


class HParamsBoard:
    """Writes what the HParams page shows of a search into `folder`, the search's logdir.

    A column has numbers or true and false where all its values are such, and otherwise labels: of lists, of null, of
    what only some trials have. A trial's folder is the one of its curves, below `folder`. A trial that is written again
    is shown as written last. One thread of one process at a time writes the board of a search.
    """

    def __init__(
        self,
        folder: Path,
        parameters: Mapping[str, Domain],
        metrics: Sequence[str],
        conditional: Collection[str] = (),
    ) -> None:
        """Writes the columns.

        parameters: {key path: its values}; a value or a path of a trial that is not among them is added to them then
        metrics: what trials are compared by
        conditional: those of the parameters that only some trials have; the others show `MISSING`
        """
        self._folder, self._metrics, self._conditional = folder, tuple(metrics), frozenset(conditional)
        self._parameters = dict(parameters)
        self._running: dict[Path, tuple[Path, float]] = {}  # the file and the time of the start
        self._write_columns()
        for ended in folder.rglob(FILE):  # killed between the two steps of an end
            _remove(ended.parent, "running-*")

    def begin_trial(self, folder: Path, name: str, values: Mapping[str, object]) -> None:
        """A trial runs; `name` is what the page calls it."""
        self._add_columns(values)
        began = time.time()
        start = self._start(name, values)
        running = folder / f"running-{_digest(start)}"
        (folder / FILE).unlink(missing_ok=True)
        _remove(folder, "running-*", kept=running)
        # A new file each time, beside a killed driver's: an open TensorBoard reads on from file to file.
        self._running[folder] = (running / f"events.out.tfevents.{began:.6f}.hparams", began)
        write_events(self._running[folder][0], _session(start, "running", began))

    def report_trial(self, folder: Path, step: int, metrics: Mapping[str, float]) -> None:
        """The values of a running trial's metrics so far, by their scope; `step` as in its curves."""
        append_events(self._running[folder][0], _scalars(metrics), step)

    def end_trial(
        self,
        folder: Path,
        name: str,
        values: Mapping[str, object],
        status: Literal["success", "failure"],
        metrics: Mapping[str, float],
        step: int = 0,
    ) -> None:
        """A trial ended with these values of its metrics. One that never ran, reused or infeasible, ends only."""
        self._add_columns(values)
        _, began = self._running.pop(folder, (None, time.time()))
        session = _session(self._start(name, values), status, began)
        write_events(folder / FILE, [*session, *_scalars(metrics)], step)
        _remove(folder, "running-*")

    def _start(self, name: str, values: Mapping[str, object]) -> SessionStartInfo:
        shown = {path: self._shown(path, values) for path in self._parameters}
        given = {path: value for path, value in shown.items() if value is not None}
        return SessionStartInfo(group_name=name, hparams=given)

    def _shown(self, path: str, values: Mapping[str, object]) -> struct_pb2.Value | None:
        if self._kind(path) == "label":
            return _value("label", values[path]) if path in values else struct_pb2.Value(string_value=MISSING)
        return _value(self._kind(path), values[path]) if path in values else None

    def _kind(self, path: str) -> Kind:
        domain = self._parameters[path]
        if path in self._conditional or domain is None:
            return "label"
        if isinstance(domain, Interval) or all(map(_is_number, domain)):
            return "number"
        return "truth" if all(isinstance(value, bool) for value in domain) else "label"

    def _add_columns(self, values: Mapping[str, object]) -> None:
        before = dict(self._parameters)
        for path, value in values.items():
            domain = self._parameters.setdefault(path, None)
            if isinstance(domain, Sequence) and value not in domain:
                self._parameters[path] = (*domain, value)
        if self._parameters != before:
            self._write_columns()

    def _write_columns(self) -> None:
        columns = api_pb2.Experiment(
            hparam_infos=[self._column(path) for path in self._parameters],
            metric_infos=[
                api_pb2.MetricInfo(name=api_pb2.MetricName(tag=METRIC_TAG.format(name)), display_name=name)
                for name in self._metrics
            ],
        )
        written = self._folder / f"experiment-{_digest(columns)}"
        write_events(written / FILE, [_description(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=columns))])
        _remove(self._folder, "experiment-*", kept=written)

    def _column(self, path: str) -> api_pb2.HParamInfo:
        domain, kind = self._parameters[path], self._kind(path)
        column = api_pb2.HParamInfo(name=path, type=_KINDS[kind])
        if isinstance(domain, Interval) and kind == "number":
            column.domain_interval.min_value, column.domain_interval.max_value = domain.low, domain.high
        elif isinstance(domain, Sequence):
            missing = [struct_pb2.Value(string_value=MISSING)] if path in self._conditional else []
            values = [_value(kind, value) for value in domain]
            column.domain_discrete.CopyFrom(struct_pb2.ListValue(values=values + missing))
        column.differs = len(column.domain_discrete) != 1
        return column


def label(value: object) -> str:
    """A value as a spec has it: cnn, [3, 4, 5], null, true, 0.0003."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _value(kind: Kind, value: object) -> struct_pb2.Value:
    if kind == "label":
        return struct_pb2.Value(string_value=label(value))
    return struct_pb2.Value(bool_value=value) if kind == "truth" else struct_pb2.Value(number_value=value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _session(start: SessionStartInfo, status: Status, began: float) -> list[Summary.Value]:
    begun = SessionStartInfo(start_time_secs=began)
    begun.MergeFrom(start)
    end = SessionEndInfo(status=_STATUSES[status], end_time_secs=0 if status == "running" else time.time())
    return [
        _description(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=begun)),
        _description(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
    ]


def _description(tag: str, data: HParamsPluginData) -> Summary.Value:
    return Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)


def _scalars(metrics: Mapping[str, float]) -> list[Summary.Value]:
    # The page cannot sort a column that has a nan.
    return [scalar(METRIC_TAG.format(name), value) for name, value in metrics.items() if math.isfinite(value)]


def _digest(message: SessionStartInfo | api_pb2.Experiment) -> str:
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:10]


def _remove(folder: Path, pattern: str, kept: Path | None = None) -> None:
    for path in folder.glob(pattern):
        if path != kept:
            shutil.rmtree(path)
