"""A part of the report: pictures and what to know of them, or why there is nothing to show."""

from collections.abc import Sequence
from dataclasses import dataclass

from reforge.search.report.drawing import Picture


@dataclass(frozen=True)
class Section:
    """title: its heading; note: a sentence or two under it; pictures: small ones stand side by side."""

    title: str
    note: str
    pictures: Sequence[Picture] = ()
    is_grid: bool = False

    @property
    def anchor(self) -> str:
        """What links of the page call it."""
        return self.title.lower().replace(" ", "-")
