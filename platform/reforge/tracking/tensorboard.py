"""Curves and texts of a run as TensorBoard event files."""

import io
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

# A killed process loses what it had not flushed, and curves are watched live: torch's 120 s is too long for both.
FLUSH_SECONDS = 10


class TensorBoardSink:
    """Writes one more event file into `folder`, which TensorBoard reads together with the earlier ones as one run.

    `purge_step` hides every earlier point at that step or beyond. After a resume from step k open it with `k + 1`:
    the steps that are done again then appear once. None is a run from the beginning, and hides all that stood there.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        _await_a_later_name(folder)
        # The reader behind TensorBoard's pages purges from the second session mark on: the first session needs one too.
        first_valid = purge_step or 0
        self._writer = SummaryWriter(str(folder), purge_step=first_valid, flush_secs=FLUSH_SECONDS)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to the curve of each name, such as "train/loss"."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Show a text under TensorBoard's Text tab, rendered as Markdown."""
        self._writer.add_text(tag, markdown, step)

    def image(self, step: int, tag: str, png: bytes) -> None:
        """Show a picture under TensorBoard's Images tab."""
        from PIL import Image  # here: most processes of a run draw nothing

        with Image.open(io.BytesIO(png)) as picture:
            self._writer.add_image(tag, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def flush(self) -> None:
        """Return once everything added so far is in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file; nothing can be added afterwards."""
        self._writer.close()


def _await_a_later_name(folder: Path) -> None:
    # TensorBoard reads the files of a folder by their names: the second they are of, and then a number, as text.
    while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.05)
