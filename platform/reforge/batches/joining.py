"""The files of all parts joined into shards of a bounded size, in the order of the parts.

part 0: train-0-00000.bin      part 1: train-0-00000.bin      part 2: ...
        '------------------ train-00000.bin ---------------'  '- train-00001.bin
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from reforge.batches.bucketing import join_buckets
from reforge.batches.data import Data
from reforge.batches.encoding import SPLITS, set_names
from reforge.batches.executor import Executor, Tick
from reforge.batches.packing import check_not_empty
from reforge.batches.shards import token_dtype
from reforge.batches.storage import sync_file
from reforge.corpora.place import is_remote

_MIB = 1 << 20
_COPY_BYTES = 1 << 22
_COUNTS = ("documents", "tokens", "unknown_tokens", "bytes", "blocks")


@dataclass(frozen=True)
class JoinTask:
    """Files whose contents, one after the other, become a shard."""

    sources: tuple[Path, ...]
    target: Path


def join_parts(
    data: Data,
    vocab_size: int,
    folders: Sequence[Path],
    parts: Sequence[Mapping[str, Any]],
    target: Path,
    run: Executor,
) -> dict[str, Any]:
    """Write the shards of every split into `target`; the report of each. parts: the manifests of `folders`."""
    dtype = token_dtype(vocab_size)
    tasks: list[JoinTask] = []
    if data.packing != "documents":
        reports = {split: _join_rows(data, dtype, split, folders, parts, target) for split in SPLITS}
    else:
        reports = {split: _plan_blocks(data, dtype, split, folders, parts, target, tasks) for split in SPLITS}
    for _ in run(join_files, tasks, lambda documents, num_bytes: None):
        pass
    for split, report in reports.items():
        check_not_empty(split, report)
    return reports


def join_files(task: JoinTask, tick: Tick) -> None:
    """Write one shard."""
    # One that died may have made the target a second name of its source, which must not be written to.
    task.target.unlink(missing_ok=True)
    if len(task.sources) == 1 and _linked(task.sources[0], task.target):
        return
    with task.target.open("wb") as joined:
        for source in task.sources:
            with source.open("rb") as part:
                shutil.copyfileobj(part, joined, _COPY_BYTES)
        sync_file(joined)


def _linked(source: Path, target: Path) -> bool:
    """Whether `target` could be made a second name of a local file; a file system may know no links."""
    if is_remote(target):
        return False
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _plan_blocks(
    data: Data,
    dtype: "np.dtype[Any]",
    split: str,
    folders: Sequence[Path],
    parts: Sequence[Mapping[str, Any]],
    target: Path,
    tasks: list[JoinTask],
) -> dict[str, Any]:
    """Add the tasks that join a split's blocks to `tasks`; the split's report, with the files that they will write."""
    most_rows = max(1, data.shard_mib * _MIB // (data.block_tokens * dtype.itemsize))
    sets: list[dict[str, Any]] = []
    num_files = 0
    for name in set_names(data):
        present = list(_reports_of(name, split, folders, parts))
        files: list[tuple[str, int]] = []
        for sources, rows in _grouped(present, most_rows):
            files.append((f"{split}-{num_files:05d}.bin", rows))
            tasks.append(JoinTask(tuple(sources), target / files[-1][0]))
            num_files += 1
        sets.append({"name": name, **_summed([report for _, report in present]), "files": files})
    return {**_summed(sets), "sets": sets}


def _grouped(present: Sequence[tuple[Path, Mapping[str, Any]]], most_rows: int) -> Iterator[tuple[list[Path], int]]:
    """Neighbouring files that fit into one shard together, and how many rows they have."""
    group: list[Path] = []
    num_rows = 0
    for folder, report in present:
        for name, rows in report["files"]:
            if group and num_rows + rows > most_rows:
                yield group, num_rows
                group, num_rows = [], 0
            group.append(folder / name)
            num_rows += rows
    if group:
        yield group, num_rows


def _join_rows(
    data: Data,
    dtype: "np.dtype[Any]",
    split: str,
    folders: Sequence[Path],
    parts: Sequence[Mapping[str, Any]],
    target: Path,
) -> dict[str, Any]:
    """Write rows of one document each; sets are kept apart where weights may tell how often each comes."""
    found = {name: list(_reports_of(name, split, folders, parts)) for name in set_names(data)}
    max_bytes = data.shard_mib * _MIB
    if data.batches == "bucketed":
        return join_buckets(target, split, list(chain.from_iterable(found.values())), dtype, max_bytes)
    sets = [
        {"name": name, **join_buckets(target, f"{split}-{number}", present, dtype, max_bytes)}
        for number, (name, present) in enumerate(found.items())
    ]
    return {**_summed(sets), "sets": sets}


def _reports_of(
    name: str, split: str, folders: Sequence[Path], parts: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Folder and report of every part that has documents of a set."""
    for folder, part in zip(folders, parts, strict=True):
        if name in part["splits"][split]:
            yield folder, part["splits"][split][name]


def _summed(reports: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: sum(report[name] for report in reports) for name in _COUNTS}
