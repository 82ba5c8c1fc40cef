"""Curves and texts of a run as TensorBoard event files."""

import errno
import io
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from reforge.loop.patience import patiently

# A killed process loses what it had not flushed, and curves are watched live: torch's 120 s is too long for both.
FLUSH_SECONDS = 10


class TensorBoardSink:
    """Writes one more event file into `folder`, which TensorBoard reads together with the earlier ones as one run.

    `purge_step` hides every earlier point at that step or beyond. After a resume from step k open it with `k + 1`:
    the steps that are done again then appear once. None is a run from the beginning, and hides all that stood there.
    What the system refuses is raised by `flush` alone: a file that an error broke is followed by another, which has all
    that was not flushed.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        _await_a_later_name(folder)
        # The reader behind TensorBoard's pages purges from the second session mark on: the first session needs one too.
        first_valid = purge_step or 0
        self._folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=first_valid, flush_secs=FLUSH_SECONDS)
        self._is_broken = False
        self._added: list[tuple[str, int, tuple[Any, ...], dict[str, Any]]] = []  # since the last flush

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to the curve of each name, such as "train/loss"."""
        for name, value in values.items():
            self._add("add_scalar", step, name, value)

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Show a text under TensorBoard's Text tab, rendered as Markdown."""
        self._add("add_text", step, tag, markdown)

    def image(self, step: int, tag: str, png: bytes) -> None:
        """Show a picture under TensorBoard's Images tab."""
        from PIL import Image  # here: most processes of a run draw nothing

        with Image.open(io.BytesIO(png)) as picture:
            self._add("add_image", step, tag, np.asarray(picture.convert("RGB")), dataformats="HWC")

    def flush(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Return once everything added so far is in the file; storage that is gone is waited for, and `say` told."""
        patiently(self._flush, say)
        self._added.clear()

    def _add(self, add: str, step: int, *what: Any, **how: Any) -> None:
        self._added.append((add, step, what, how))
        with suppress(OSError):  # it comes again in `flush`
            getattr(self._writer, add)(*what, step, **how)

    def _flush(self) -> None:
        if self._is_broken:
            self._begin_again()
        self._is_broken = True
        self._writer.flush()
        self._is_broken = False

    def _begin_again(self) -> None:
        if not self._folder.is_dir():  # it would be made, on whatever lies where the storage was
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder))
        _await_a_later_name(self._folder)
        first = min((step for _, step, _, _ in self._added), default=None)
        self._writer = SummaryWriter(str(self._folder), purge_step=first, flush_secs=FLUSH_SECONDS)
        for add, step, what, how in self._added:
            getattr(self._writer, add)(*what, step, **how)

    def close(self) -> None:
        """Flush and close the file; nothing can be added afterwards."""
        self._writer.close()


def _await_a_later_name(folder: Path) -> None:
    # TensorBoard reads the files of a folder by their names: the second they are of, and then a number, as text.
    while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.05)
