"""What a study hands out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Suggestion:
    """One trial that the study hands out.

    number: its name in the study
    action: run it; or, told to the sampler already and only spent: reuse (equal to trial `source`), infeasible (`why`)
    chosen: {dimension: value}
    assignment: {key path: value}
    resumed: it was handed out before, by a driver that died
    """

    number: int
    action: Literal["run", "reuse", "infeasible"]
    chosen: Mapping[str, Any]
    assignment: Mapping[str, Any]
    resumed: bool = False
    why: str = ""
    source: int | None = None
