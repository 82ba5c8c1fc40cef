"""Remote shards on this machine: as many files as fit into a bound are kept, the rest are read by ranges.

    s3://bucket/prepared/shards-1f2e/train-00000.bin  --first read-->  cache/shards-1f2e-train-00000.bin
                                    .../train-00417.bin  (beyond the bound)  --each batch-->  its blocks alone

Blocks come in a random order over all files, so a cache that drops files to make room for others would load each of
them again and again.
"""

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reforge.batches.order import Ints
from reforge.batches.shards import Shards
from reforge.corpora.place import remote_errors

_COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class ShardCache:
    """A folder of at most `max_bytes` that the processes of a machine share; files of other corpora make room."""

    folder: Path
    max_bytes: int

    def fitting(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """The names among `sizes` that are kept: small files first, because what is looked up most is small."""
        kept, total = set(), 0
        for name, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
            total += size
            if total > self.max_bytes:
                break
            kept.add(name)
        return frozenset(kept)

    def local(self, file: Path, keep: frozenset[str]) -> Path:
        """A local copy of a remote file, loaded now if it is not there. keep: names in its folder that may stay."""
        folder = file.parent.name
        target = self.folder / f"{folder}-{file.name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.exists():
                os.utime(target)
                return target
            self._make_room(file.stat().st_size, {f"{folder}-{name}" for name in keep})
            writing = target.with_name(f".{target.name}.writing")
            with remote_errors(file), file.open("rb") as remote, writing.open("wb") as local:
                shutil.copyfileobj(remote, local, _COPY_BYTES)
            writing.replace(target)
        return target

    def _make_room(self, num_bytes: int, keep: set[str]) -> None:
        """Delete what was used longest ago; a process that has such a file mapped keeps it until it ends."""
        present = [(entry.stat(), entry) for entry in self.folder.iterdir() if entry.suffix == ".bin"]
        total = num_bytes + sum(stat.st_size for stat, _ in present)
        for stat, entry in sorted(present, key=lambda item: item[0].st_mtime_ns):
            if total <= self.max_bytes:
                break
            if entry.name not in keep:
                entry.unlink()
                total -= stat.st_size


class RemoteShards(Shards):
    """Blocks in remote files. kept: names of the files that `cache` keeps; of the others only blocks are loaded."""

    def __init__(
        self,
        files: list[tuple[Path, int]],
        block_tokens: int,
        dtype: "np.dtype[Any]",
        cache: ShardCache,
        kept: frozenset[str],
    ) -> None:
        super().__init__(files, block_tokens, dtype)
        self._cache, self._kept = cache, kept

    def local_file(self, path: Path) -> Path:
        return self._cache.local(path, self._kept)

    def fill(self, out: Ints, numbers: Ints, rows: Ints) -> None:
        kept = np.array([path.name in self._kept for path, _ in self.files])[numbers]
        if kept.any():
            places = np.flatnonzero(kept)
            part = np.empty((len(places), self.block_tokens), dtype=np.int64)
            super().fill(part, numbers[places], rows[places])
            out[places] = part
        if not kept.all():
            places = np.flatnonzero(~kept)
            out[places] = self._ranges(numbers[places], rows[places])

    def _ranges(self, numbers: Ints, rows: Ints) -> Ints:
        """Blocks one by one, all at once where the file system can."""
        paths: Sequence[Any] = [self.files[number][0] for number in numbers]
        size = self.block_tokens * self.dtype.itemsize
        starts = [int(row) * size for row in rows]
        with remote_errors(paths[0]):
            parts = paths[0].fs.cat_ranges([path.path for path in paths], starts, [start + size for start in starts])
        return np.stack([np.frombuffer(part, self.dtype) for part in parts]).astype(np.int64)
