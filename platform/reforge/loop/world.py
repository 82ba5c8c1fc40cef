"""The processes that train together: sums over them, and work that only the first may do."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from reforge.spec import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among those that train together; one process alone needs no process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    local_size: int = 1  # how many of them share this machine

    @classmethod
    def current(cls, device: torch.device) -> "World":
        """The world of torch's default process group, or one of a single process where there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls(device=device)
        size = dist.get_world_size()
        return cls(dist.get_rank(), size, device, int(os.environ.get("LOCAL_WORLD_SIZE", size)))

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def on_first(self, action: Callable[[], T]) -> T:
        """Run `action` on the first process and give its result to all.

        Every process must call it. A UserError raised by `action` is raised on all, so that none is left waiting.
        """
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer[0] = action()
            except UserError as error:
                answer[1] = str(error)
        if self.size > 1:
            dist.broadcast_object_list(answer, src=0, device=self.device)
        if answer[1] is not None:
            raise UserError(answer[1])
        result: T = answer[0]
        return result

    def gather_on_first(self, value: T) -> list[T] | None:
        """The values of all processes by rank on the first, None on the others; all must call it."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, gathered)
        return gathered

    def on_all(self, action: Callable[[], T]) -> T:
        """Run `action` on every process and give each its own result; a UserError on any is raised on all."""
        result: list[T] = []
        error_here: str | None = None
        try:
            result.append(action())
        except UserError as error:
            error_here = str(error)
        errors = [error_here] * self.size
        if self.size > 1:
            dist.all_gather_object(errors, error_here)
        for error_anywhere in errors:
            if error_anywhere is not None:
                raise UserError(error_anywhere)
        return result[0]
