"""Every cell of a small grid trained in full once, its whole curve kept: what searches are then replayed on.

    reviews -> two files of a few thousand -> a job a cell, cells in a shuffled order -> a line of grid.jsonl each

A line is found again by the job's identity and the encoder's weights, so the same command goes on after a kill and
trains nothing twice.
"""

import hashlib
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from reforge.runs.encoder import open_encoder
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.search import Search, Space, compile_search
from reforge.search.dimension import freeze
from reforge.search.options import MetricOptions
from reforge.search.space import cells
from reforge.spec import Part, UserError, load_source

SPEC = Path(__file__).parent / "search_grid.yaml"
METRIC = "accuracy"


class GridOptions(Part):
    """The grid's file, besides its space."""

    kind: str
    name: str
    metric: MetricOptions


@dataclass(frozen=True)
class Report:
    """One evaluation.

    step: of training
    value: accuracy on the validation reviews
    seconds: from the start of the cell, of the processor's time: other work on the machine disturbs it less
    wall_seconds: the same by the clock
    """

    step: int
    value: float
    seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Cell:
    """One combination and its curve.

    seconds: of the processor, with the final scoring
    """

    key: str
    assignment: Mapping[str, Any]
    reports: tuple[Report, ...]
    seconds: float

    @classmethod
    def from_json(cls, line: str) -> "Cell":
        """A line of grid.jsonl."""
        fields = json.loads(line)
        return cls(**{**fields, "reports": tuple(Report(**report) for report in fields["reports"])})


Grid = Search[FinetuneJob, GridOptions]


def read_grid(folder: Path, encoder: Path | None) -> Grid:
    """The grid over the reviews in `folder`. encoder: a finished run; None: a tiny model from scratch, no freezing."""
    overrides = [f"data.train.path={folder / 'train.txt'}", f"data.valid.path={folder / 'valid.txt'}"]
    if encoder:
        overrides += [f"encoder.run={encoder}"]
    else:
        overrides += ["encoder.run=null", "space.encoder.trainable_layers=[all]", "model.kind=reformer"]
        overrides += ["model.size=tiny", "tokenizer.kind=wordpiece", "tokenizer.vocab_size=4000"]
    return compile_search(load_source(SPEC, overrides, dotted=("space",)), FinetuneJob, GridOptions)


def read_cells(file: Path) -> list[Cell]:
    """The cells that are finished; a last line that a kill cut short is left out."""
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
    return [Cell.from_json(line) for line in lines]


def whole_grid(folder: Path, space: Space) -> list[Cell]:
    """A cell for each combination of the space; raises UserError where some are missing, or two grids are mixed."""
    file = folder / "grid.jsonl"
    found = Counter(drawn(cell.assignment) for cell in read_cells(file))
    missing = sum(drawn(assignment) not in found for assignment in assignments(space))
    if missing:
        raise UserError(f"{file}: {missing} cells are missing; `search.py grid` with the same --out trains them")
    if found.total() > len(found):
        raise UserError(f"{file} holds cells of more than one grid; choose another --out")
    return read_cells(file)


def drawn(assignment: Mapping[str, Any]) -> object:
    """An assignment as a key."""
    return frozenset((path, freeze(value)) for path, value in assignment.items())


def assignments(space: Space) -> list[dict[str, Any]]:
    """All combinations of the space, shuffled: a part of the grid is then a fair sample, in its times too."""
    listed = [space.with_constants(settings) for settings in cells(space.dimensions)]
    random.Random(1).shuffle(listed)
    return listed


def take_reviews(reviews: Path, folder: Path, num_train: int, num_valid: int) -> None:
    """The first reviews that have a text, for training, and the next for validation; the set is in no order."""
    header, *rows = reviews.read_text(encoding="utf-8").rstrip("\n").split("\n")
    rows = [row for row in rows if row.split("\t")[1].strip()][: num_train + num_valid]
    for name, part in (("train", rows[:num_train]), ("valid", rows[num_train:])):
        (folder / f"{name}.txt").write_text("\n".join([header, *part, ""]), encoding="utf-8")


def key_of(job: FinetuneJob) -> str:
    """A digest of all that decides the curve."""
    identity = job.identity()
    if job.encoder.run is not None:
        identity["encoder"]["run"] = open_encoder(job.encoder.run).digest
    return hashlib.blake2b(json.dumps(identity, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()


def train_cell(folder: Path, encoder: Path | None, assignment: Mapping[str, Any], key: str, nice: int) -> Cell:
    """Train one cell on one thread of this process."""
    torch.set_num_threads(1)
    os.nice(max(0, nice - os.nice(0)))
    job = read_grid(folder, encoder).job(assignment)
    began, began_wall = time.process_time(), time.perf_counter()
    reports: list[Report] = []

    def keep(report: Any) -> None:
        if report.valid:
            seconds, wall = time.process_time() - began, time.perf_counter() - began_wall
            reports.append(Report(report.step, report.valid[METRIC], round(seconds, 3), round(wall, 3)))

    with tempfile.TemporaryDirectory() as run:
        finetune(job, Path(run) / "cell", torch.device("cpu"), on_report=keep)
    return Cell(key, assignment, tuple(reports), round(time.process_time() - began, 3))


def train_grid(folder: Path, encoder: Path | None, num_at_once: int, nice: int) -> list[Cell]:
    """Train the cells that grid.jsonl lacks; the cells of this grid."""
    file, grid = folder / "grid.jsonl", read_grid(folder, encoder)
    known = read_cells(file)
    keep_whole_lines(file, known)
    found = {key_of(grid.job(assignment)): assignment for assignment in assignments(grid.space)}
    todo = {key: assignment for key, assignment in found.items() if key not in {cell.key for cell in known}}
    with ProcessPoolExecutor(num_at_once, mp_context=get_context("spawn")) as pool, file.open("a") as out:
        running = [pool.submit(train_cell, folder, encoder, todo[key], key, nice) for key in todo]
        for number, done in enumerate(as_completed(running), start=1):
            cell = done.result()
            out.write(json.dumps(asdict(cell)) + "\n")
            out.flush()
            best = max(report.value for report in cell.reports)
            print(f"{number} of {len(todo)}: {best:.3f} in {cell.seconds:.0f} s {dict(cell.assignment)}", flush=True)
    return [cell for cell in read_cells(file) if cell.key in found]


def keep_whole_lines(file: Path, known: list[Cell]) -> None:
    """Drop what a kill left of a line."""
    if file.exists():
        file.write_text("".join(json.dumps(asdict(cell)) + "\n" for cell in known))
