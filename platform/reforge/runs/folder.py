"""A run's folder: what lies where, whether the run is new, half done or finished, and who may write.

runs/NAME/  spec.yaml  tokenizer.json  config.json  model.safetensors  metrics.jsonl  result.json
            tensorboard/  checkpoints/
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from reforge.corpora.place import is_remote, remote_errors
from reforge.loop import World
from reforge.spec import Part, UserError, load_source, render
from reforge.tracking import write_whole

# A killed driver's workers may go on for some seconds before Ray ends them; a new start waits for their lock.
LOCK_WAIT_SECONDS = 60.0
_RESULT = TypeAdapter(dict[str, Any])
T = TypeVar("T")


class Job(Protocol):
    """A job whose run is kept in a folder.

    identity: the part of the spec that decides what is learnt: a run goes on only under the same identity
    is_done: whether a run with this result has nothing left to do
    """

    def identity(self) -> dict[str, Any]: ...

    def is_done(self, result: dict[str, Any]) -> bool: ...


class RunStatus(Enum):
    """How far a run has come."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run.

    kept_in: the folder that a run which has begun is known by
    curves: where TensorBoard's event files lie; None: in the run's own folder
    """

    path: Path
    kept_in: str = "checkpoints"
    curves: Path | None = None

    @property
    def spec(self) -> Path:
        """The fully resolved job spec."""
        return self.path / "spec.yaml"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, in the tokenizers library's own format."""
        return self.path / "tokenizer.json"

    @property
    def config(self) -> Path:
        """What is needed to build the model again."""
        return self.path / "config.json"

    @property
    def weights(self) -> Path:
        """The weights after the last step."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """Every logged figure, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.curves or self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        """The final figures; written last, so that its presence means the run is finished."""
        return self.path / "result.json"

    def keep(self, checkpoint: Path, num_kept: int, best_step: int | None) -> None:
        """Told on the first process of a checkpoint that is complete: it lies where it belongs.

        A working copy brings it to the run's place. Raises UserError where that failed for an earlier one.
        """

    def have(self, checkpoint: str, world: World) -> None:
        """Every process of the world calls it before it reads a checkpoint here; a working copy fetches it."""

    def claim(self, job: Job, wait_seconds: float = LOCK_WAIT_SECONDS) -> TextIO:
        """Make the folder `job`'s own, or go on with what an earlier start of the same job left; writes the spec.

        What comes back is the right to write, held until it is closed or the process ends. Raises UserError where the
        folder cannot be written, holds a run of another spec, or another process holds it after `wait_seconds`.
        """
        lock = self.hold(wait_seconds)
        with storage_errors(self.path):
            try:
                if self.status(job) is not RunStatus.FINISHED:
                    assert isinstance(job, Part)
                    write_whole(self.spec, render(job))
            except BaseException:
                lock.close()
                raise
        return lock

    def hold(self, wait_seconds: float = LOCK_WAIT_SECONDS) -> TextIO:
        """The right to write the folder, which is made where there is none; held until it is closed.

        Raises UserError where it cannot be written, or another process holds it after `wait_seconds`.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            return self._lock(wait_seconds)

    def status(self, job: Job) -> RunStatus:
        """How far the run has come; changes nothing. Raises UserError where the folder holds a run of another spec."""
        with remote_errors(self.path):
            return self._status(job)

    def _status(self, job: Job) -> RunStatus:
        if is_remote(self.path):
            self.path.fs.invalidate_cache()  # type: ignore[attr-defined]
        if not self.spec.is_file() or not (self.path / self.kept_in).is_dir():
            return RunStatus.NEW
        try:
            assert isinstance(job, Part)
            earlier = type(job).model_validate_json(json.dumps(_read_spec(self.spec)))
        except ValidationError as error:
            raise UserError(
                f"{self.spec} is not of this version of reforge; delete {self.path} or choose another name"
            ) from error
        differences = list(diff(earlier.identity(), job.identity()))
        if differences:
            shown = "\n".join(f"  {line}" for line in differences)
            raise UserError(
                f"{self.path} holds a run of another spec:\n{shown}\n"
                f"choose another name (name=...), or delete the folder to start anew"
            )
        if self.result.is_file():
            try:
                if job.is_done(self.read_result()):
                    return RunStatus.FINISHED
            except (KeyError, TypeError) as error:
                raise UserError(not_a_result(self.result)) from error
        return RunStatus.UNFINISHED

    def read_result(self) -> dict[str, Any]:
        """The final figures of a run that has them; raises UserError where the file holds none."""
        try:
            return _RESULT.validate_json(self.result.read_bytes())
        except ValueError as error:
            raise UserError(not_a_result(self.result)) from error

    def _lock(self, wait_seconds: float) -> TextIO:
        file = (self.path / ".lock").open("a+", encoding="utf-8")
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    file.close()
                    raise UserError(f"{self.path} is being written by another process ({holder})") from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        return file


def _read_spec(file: Path) -> dict[str, object]:
    """The options in a spec that a run was given, which may lie in a store."""
    if not is_remote(file):
        return load_source(file).data
    with tempfile.TemporaryDirectory(prefix="reforge-") as here:
        copy = Path(here) / file.name
        copy.write_bytes(file.read_bytes())
        return load_source(copy).data


@contextmanager
def held_on_first(folder: RunFolder, job: Job, world: World) -> Iterator[None]:
    """The right to write the folder, on the first process, as long as the context lasts; every process must enter."""
    held: list[TextIO] = []  # kept open, and so locked
    world.on_first(lambda: held.append(folder.claim(job)))
    try:
        yield
    finally:
        for file in held:
            file.close()


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses (no room, no permission) into a UserError that names the folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps the system's errors in its own
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"run.storage: cannot write the run's folder {folder}: {reason}") from error


def parse_result(kind: type[T], values: Any) -> T:
    """The figures of a run from what JSON made of them; raises UserError where they are none."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise UserError(not_a_result("the run's result.json")) from error


def not_a_result(file: Path | str) -> str:
    """What is said of a file that holds no result of a run."""
    return f"{file} is damaged, or not of this version of reforge: delete it, and its job makes it again"


def diff(earlier: Any, now: Any, path: str = "") -> Iterator[str]:
    """Lines `key.path: was A, now B` for the leaves in which two trees differ."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in earlier.keys() | now.keys():
            yield from diff(earlier.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif earlier != now:
        yield f"{path}: was {earlier}, now {now}"
