"""The same files in another folder: what is never changed once it is written need not be copied."""

import os
import shutil
from pathlib import Path


def link_folder(source: Path, target: Path) -> None:
    """Make `target` with links to the files of `source`, or with copies where the file system has no links."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
