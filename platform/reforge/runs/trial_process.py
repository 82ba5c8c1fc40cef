"""A process that trains trials, one after the other, and says what became of each instead of raising.

begin(task) --> advance() --> report | report | ... | trouble
"""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import torch

from reforge.loop import TrainingDiverged
from reforge.runs.stop_request import Stopped
from reforge.runs.trial import TrialReport, TrialTask, Workplace, run_trial
from reforge.spec import UserError

# What torch says where the memory of the machine is at its end; on a GPU it has an error of its own.
_CPU_OUT_OF_MEMORY = "can't allocate memory"


@dataclass(frozen=True)
class Trouble:
    """Why a trial cannot go on.

    kind: out_of_memory; diverged, its loss is no number; refused, with something that the user can mend; raised, a
        fault of ours; died, its process did; stopped, as it was asked to, to be gone on with
    """

    kind: Literal["out_of_memory", "diverged", "refused", "raised", "died", "stopped"]
    why: str
    traceback: str = ""


Advance = TrialReport | Trouble


class TrialProcess:
    """What one process does for a trial. Nothing that goes wrong in a trial ends the process."""

    def __init__(self, cwd: str, num_cpus: int, gpus: float) -> None:
        """cwd: of the driver, which the paths in a spec are relative to. gpus: a fraction is a share of its memory."""
        with suppress(OSError):  # on another node: the paths that are left are absolute, or of the job's own directory
            os.chdir(cwd)
        torch.set_num_threads(num_cpus)
        device = torch.device("cuda", 0) if gpus else torch.device("cpu")
        if 0 < gpus < 1:  # who takes more runs out of memory itself, instead of the trial beside it
            torch.cuda.set_per_process_memory_fraction(gpus, device)
        self._place = Workplace(device)
        self._reports: Iterator[TrialReport] = iter(())
        self._is_warm = False

    def begin(self, task: TrialTask) -> None:
        """Leave the trial before, wherever it stands, and take on another."""
        self.end()
        self._reports = run_trial(task, self._place)

    def advance(self) -> Advance:
        """Train until there is something to judge."""
        try:
            return next(self._reports)
        except TrainingDiverged as error:
            trouble = Trouble("diverged", str(error))
        except Stopped as stopped:
            trouble = Trouble("stopped", str(stopped))
        except UserError as error:
            trouble = Trouble("refused", str(error))
        except Exception as error:  # a search goes on where a trial does not
            trouble = _trouble(error)
        self.end()
        return trouble

    def end(self) -> None:
        """Leave the trial; the memory that it took is free."""
        close = getattr(self._reports, "close", None)
        if close is None:
            return
        close()
        self._reports = iter(())
        gc.collect()
        if not self._is_warm:  # what is left stays: a collection that walks through all of it takes 0.3 s
            self._is_warm = True
            gc.freeze()
        if self._place.device.type == "cuda":
            torch.cuda.empty_cache()


def _trouble(error: Exception) -> Trouble:
    first_line = next(iter(str(error).splitlines()), "")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _CPU_OUT_OF_MEMORY in str(error):
        return Trouble("out_of_memory", f"out of memory: {first_line}")
    return Trouble("raised", f"{type(error).__name__}: {first_line}", traceback.format_exc())
