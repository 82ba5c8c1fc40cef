"""A trial's turn: what it trains of a round of its population, in one process.

the round before --take_over--> another one's checkpoints and figures in place of its own, where it goes on as that one
                 --training---> the report that ends the round --keep_round--> rounds/report-0004, for others to take

    trials/0007/  checkpoints/  metrics.jsonl  lineage.jsonl  rounds/report-0004/{checkpoints/, metrics.jsonl}

Checkpoints are never changed once they are written: what is kept and what is taken over are links to the same files.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reforge.loop.checkpoint import find_flaw
from reforge.runs.folder import RunFolder, storage_errors
from reforge.runs.links import link_folder
from reforge.search.records import Takeover
from reforge.spec import UserError
from reforge.tracking import write_whole

ROUNDS = "rounds"
LINEAGE_FILE = "lineage.jsonl"


@dataclass(frozen=True)
class Turn:
    """What a process must know of the round.

    ends_at: the report after which the trial waits for the others; it is let go of then
    takeover: what it goes on as from the round before; None: as itself
    donor: the folder of the trial that it goes on as
    """

    ends_at: int
    takeover: Takeover | None = None
    donor: Path | None = None


def round_folder(trial: Path, report: int) -> Path:
    """Where a trial is kept as it was at a report, if it is."""
    return trial / ROUNDS / f"report-{report:04d}"


def keep_round(folder: RunFolder, report: int) -> None:
    """Keep a trial that nobody trains just now as it is at a report; doing it twice changes nothing."""
    kept = round_folder(folder.path, report)
    if kept.is_dir():
        return
    writing = kept.with_name(f".writing-{kept.name}")
    with storage_errors(folder.path):
        shutil.rmtree(writing, ignore_errors=True)
        link_folder(folder.checkpoints, writing / "checkpoints")
        shutil.copyfile(folder.metrics, writing / folder.metrics.name)
        writing.rename(kept)


def take_over(folder: RunFolder, turn: Turn) -> None:
    """Put what the donor was in place of what the trial is, where that has not been done.

    The trial's figures are the donor's then up to that report: they are of the weights that it has. A process that is
    killed meanwhile leaves a trial that takes over again. Raises UserError where the donor's checkpoint is damaged.
    """
    takeover, file = turn.takeover, folder.path / LINEAGE_FILE
    if takeover is None or any(line["report"] == takeover.report for line in read_lineage(file)):
        return
    assert turn.donor is not None
    donor = round_folder(turn.donor, takeover.report)
    with closing(folder.hold()), storage_errors(folder.path):
        coming = folder.path / ".coming"
        shutil.rmtree(coming, ignore_errors=True)
        link_folder(donor / "checkpoints", coming)
        newest = _newest(coming, donor)
        folder.spec.unlink(missing_ok=True)  # the folder is another job's from now on
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        coming.rename(folder.checkpoints)
        write_whole(folder.metrics, (donor / folder.metrics.name).read_text(encoding="utf-8"))
        told = {"report": takeover.report, "step": newest, "donor": takeover.donor, "assignment": takeover.assignment}
        lines = [*read_lineage(file), told]
        write_whole(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_lineage(file: Path) -> list[Mapping[str, Any]]:
    """What a trial has taken over, the oldest first."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def drop_rounds(trial: Path, before: int | None = None) -> None:
    """Remove what a trial was at reports below one, or at all of them."""
    for kept in (trial / ROUNDS).glob("*report-*"):
        if before is None or int(kept.name.rpartition("-")[2]) < before:
            shutil.rmtree(kept, ignore_errors=True)
    with suppress(OSError):  # others are left in it
        (trial / ROUNDS).rmdir()


def _newest(checkpoints: Path, donor: Path) -> int:
    """The step of the newest of some checkpoints, all of which are whole."""
    found = sorted(checkpoints.glob("step-*"))
    flaws = [f"{each.name}: {flaw}" for each in found if (flaw := find_flaw(each)) is not None]
    if flaws or not found:
        raise UserError(f"{donor} cannot be taken over: {'; '.join(flaws) or 'it has no checkpoint'}")
    return int(found[-1].name.removeprefix("step-"))
