"""From step reports to rows, curves and progress; and the loop driven with them and with checkpoints.

train() --StepReport--> metrics.jsonl, TensorBoard, progress
                   '--> checkpoints
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reforge.loop import (
    Checkpoints,
    LoopState,
    OptimizerOptions,
    Plan,
    StepReport,
    TrainingData,
    World,
    last_step,
    restore,
    state_tensors,
    train,
)
from reforge.loop.sharding import whole
from reforge.runs.folder import RunFolder, storage_errors
from reforge.runs.stop_request import Leaving, Stopped, StopRequest
from reforge.spec import UserError
from reforge.tracking import MetricsLog, TensorBoardSink, read_metrics

SECONDS = "train/seconds"  # of training and evaluation, all starts of the run together

Observer = Callable[[Mapping[str, Any]], None]
Panels = Callable[[TensorBoardSink, int], None]


@dataclass(frozen=True)
class Tracking:
    """What is kept of a run while it trains, and how often.

    title: the job's spec, for TensorBoard
    observe: gets progress events on the first process: {"step": ...}, {"note": line} of what goes as it should,
        {"say": line} of what does not
    panels: adds texts or images to TensorBoard at a step that was validated
    is_leaving: whether this process has to go; asked on every process before each step
    """

    folder: RunFolder
    title: str
    log_every_steps: int
    checkpoint_every_steps: int
    keep_checkpoints: int
    observe: Observer
    panels: Panels
    is_leaving: Callable[[], bool] = lambda: False


def run_training(
    state: LoopState, data: TrainingData, plan: Plan, optimizer: OptimizerOptions, world: World, tracking: Tracking
) -> Iterator[StepReport]:
    """Go on from the newest checkpoint to the end, a report a step; what a report is of is tracked and kept by then.

    Every process of the world must consume it in step; one that closes it early leaves a run that can be gone on with.
    Raises UserError for what stops a run and trying again would not mend, Stopped where it was asked to stop, Leaving
    where a process has to go.
    """
    checkpoints = Checkpoints(tracking.folder.checkpoints, lambda line: tracking.observe({"say": line}))
    newest = world.on_first(checkpoints.newest_complete)
    if newest is not None:
        world.on_all(lambda: restore(state, checkpoints.folder / newest.name))  # on another machine: of its own
    request = StopRequest(tracking.folder.path)

    def is_asked_to_stop() -> bool:
        return tracking.is_leaving() or (world.is_first and request.is_made())

    with tracker_on_first(tracking, state, plan, world) as tracker:
        for report in train(state, data, plan, optimizer, world, is_asked_to_stop):
            with whole(state.model) if report.valid else contextlib.nullcontext():
                if tracker:
                    tracker.take(report)  # which draws samples from the model
            is_due = report.step % tracking.checkpoint_every_steps == 0
            if report.is_last or report.is_best or report.is_stopped or is_due:
                save(checkpoints, state, world, tracking, tracker)
            yield report
            if report.is_stopped and not report.is_last:
                ended = f"stopped after step {report.step:,} of {last_step(plan):,}, which is in a checkpoint"
                if not world.on_first(request.is_made):
                    raise Leaving(ended)
                world.on_first(request.clear)
                raise Stopped(ended)


@contextmanager
def tracker_on_first(tracking: Tracking, state: LoopState, plan: Plan, world: World) -> "Iterator[Tracker | None]":
    """The run's tracker on the first process, closed at the end; raises UserError where it cannot be written."""
    opened: list[Tracker] = []

    def begin() -> None:
        with storage_errors(tracking.folder.path):
            opened.append(Tracker(tracking, state, plan))

    world.on_first(begin)
    try:
        yield opened[0] if opened else None
    finally:
        for tracker in opened:
            tracker.close()


def save(
    checkpoints: Checkpoints, state: LoopState, world: World, tracking: Tracking, tracker: "Tracker | None"
) -> None:
    """Write a checkpoint; every process must call it, as each may hold a share of the state.

    Raises UserError where it, or the curves since the last one, cannot be written.
    """
    tensors = state_tensors(state, world)

    def write() -> None:
        if tracker:
            tracker.flush()  # a resume goes on after this step: what leads up to it must be on disk
        saved = checkpoints.save(state, tracking.keep_checkpoints, tensors)
        tracking.folder.keep(saved, tracking.keep_checkpoints, state.best.step if state.best else None)

    world.on_first(write)


class Tracker:
    """Turns reports into rows, curves and progress; lives on the first process only."""

    def __init__(self, tracking: Tracking, state: LoopState, plan: Plan) -> None:
        self.tracking = tracking
        # A full disk is met here first, on one process only; the next checkpoint stops the run on all of them.
        self.trouble: OSError | None = None
        folder, resumed = tracking.folder, state.step > 0
        self.log = MetricsLog(folder.metrics, resume_step=state.step)
        earlier = read_metrics(folder.metrics)
        self.began = time.monotonic() - (earlier[-1].get(SECONDS, 0.0) if earlier else 0.0)
        self.board = TensorBoardSink(folder.tensorboard, purge_step=state.step + 1 if resumed else None)
        if resumed:
            tracking.observe({"say": f"going on from step {state.step:,} of {last_step(plan):,}"})
        else:
            self.board.text(0, "spec", f"```yaml\n{tracking.title}```")
        tracking.observe({"total": last_step(plan)})
        tracking.observe({"start": state.step})

    def take(self, report: StepReport) -> None:
        """Log one report where it is due."""
        self.tracking.observe(
            {"step": report.step, "loss": report.loss, "lr": report.lr, "tokens_per_second": report.tokens_per_second}
        )
        try:
            self._write(report)
        except OSError as error:
            self.trouble = error

    def _write(self, report: StepReport) -> None:
        if report.step == 1 or report.step % self.tracking.log_every_steps == 0 or report.valid:
            values = {
                "train/loss": report.loss,
                **({f"train/{name}": mean for name, mean in report.terms.items()} if len(report.terms) > 1 else {}),
                "train/lr": report.lr,
                "train/grad_norm": report.grad_norm,
                "train/tokens_per_second": report.tokens_per_second,
                "train/tokens_seen": report.tokens_seen,
                "train/epoch": report.epoch,
                SECONDS: time.monotonic() - self.began,
                **{f"valid/{name}": value for name, value in report.valid.items()},
            }
            self.log.write(report.step, values)
            self.board.scalars(report.step, values)
        if report.valid:
            self.tracking.panels(self.board, report.step)
            figures = "  ".join(f"{name} {value:.4g}" for name, value in report.valid.items())
            self.tracking.observe({"note": f"step {report.step:,} validation: {figures}"})

    def flush(self) -> None:
        """Return once everything taken so far is in the files; raises UserError where that failed."""
        try:
            self.board.flush(lambda line: self.tracking.observe({"say": line}))
        except OSError as error:
            self.trouble = error
        if self.trouble:
            raise UserError(f"cannot write the curves under {self.tracking.folder.path}: {self.trouble}")

    def close(self) -> None:
        """Flush and close the files."""
        # What a full disk does to them here has been, or is being, reported: it must not take that message's place.
        for close in (self.log.close, self.board.close):
            with contextlib.suppress(OSError):
                close()
