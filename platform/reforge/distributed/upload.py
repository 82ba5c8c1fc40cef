"""What `--working-dir` would upload, known before Ray packs it: Ray reads everything first and refuses it then."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE, _dir_travel

from reforge.spec import UserError

MIB = 2**20
NUM_NAMED = 3

# Ray names every ignore file that it reads.
_SILENT = logging.Logger("upload", logging.CRITICAL)


@dataclass(frozen=True)
class Upload:
    """Files that are neither in .gitignore nor in .rayignore. Ray packs them without compressing."""

    num_files: int
    num_bytes: int


def check_upload(folder: Path, limit_bytes: int = GCS_STORAGE_MAX_SIZE) -> Upload:
    """What Ray would upload of `folder`. Raises UserError, naming the largest entries, where Ray would not take it."""
    if not folder.is_dir():
        raise UserError(f"--working-dir {folder}: no such folder")
    sizes: Counter[str] = Counter()
    num_files = 0

    def add(path: Path) -> None:
        nonlocal num_files
        if path.is_file():
            num_files += 1
            sizes[path.relative_to(root).parts[0]] += path.stat().st_size

    root = folder.absolute()
    _dir_travel(root, [], add, include_gitignore=True, logger=_SILENT)
    if sizes.total() >= limit_bytes:
        largest = ", ".join(f"{name} {size / MIB:,.1f} MiB" for name, size in sizes.most_common(NUM_NAMED))
        raise UserError(
            f"--working-dir {folder}: {sizes.total() / MIB:,.0f} MiB to upload, Ray takes less than "
            f"{limit_bytes / MIB:,.0f} MiB. The largest: {largest}. What a job does not need goes into .rayignore"
        )
    return Upload(num_files, sizes.total())
