"""The options of a job that nobody wrote, as its parts fill them in: by defaults, and by what names stand for."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from reforge.spec.part import Part
from reforge.spec.source import Source
from reforge.spec.tree import nested, written


class Filling:
    """From an assignment over a base spec to the dump of the job, not held against the job's rules.

    What one option leaves to another to fill in hangs on names (`kind`, `size`), not on numbers: jobs whose names
    around a path are the same share one dump for it.
    """

    def __init__(self, job: type[Part], base: Source) -> None:
        self._job, self._base = job, base
        self._known: dict[object, Mapping[str, Any] | None] = {}

    def __call__(self, path: str, assigned: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The dump that has the value of `path`; None where the assignment makes no job."""
        names = frozenset(
            (other, value)
            for other, value in assigned.items()
            if isinstance(value, str) and path.startswith(other[: other.rfind(".") + 1])
        )
        if (path, names) not in self._known:
            self._known[path, names] = self._dump(assigned)
        return self._known[path, names]

    def _dump(self, assigned: Mapping[str, Any]) -> Mapping[str, Any] | None:
        trees = (nested(path.split("."), written(value, "")) for path, value in assigned.items())
        data = json.dumps(self._base.overlaid(trees).data)
        try:
            return self._job.model_validate_json(data, strict=True).model_dump(mode="json")
        except ValidationError:
            return None
