"""What the trials of a search share beside its space: what they are all trained on, and how."""

import json
from collections.abc import Iterator
from typing import Any

from reforge.runs.trial_job import TrialJob
from reforge.runs.tune_job import TuneSearch

_NOT_LEARNT = ("name", "kind")


def context_of(search: TuneSearch) -> dict[str, str]:
    """A line for every option of the jobs that decides what is learnt and that the search does not set."""
    job = next(
        search.job(assignment) for assignment in search.space.draws(1_000, seed=0) if not search.violated(assignment)
    )
    searched = {path for dimension in search.space.dimensions for path in dimension.paths}
    # A part whose kind is searched has other options each time.
    parts = {f"{path.removesuffix('.kind')}." for path in searched if path.endswith(".kind")}
    facts = dict(_flat(_identity(job)))
    return {
        path: value
        for path, value in facts.items()
        if path not in _NOT_LEARNT and not _is_below(path, searched) and not path.startswith(tuple(parts))
    }


def _identity(job: TrialJob) -> dict[str, Any]:
    identity: dict[str, Any] = json.loads(json.dumps(job.identity(), default=str))
    return identity


def _is_below(path: str, searched: set[str]) -> bool:
    return any(path == other or path.startswith(f"{other}.") for other in searched)


def _flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        path = f"{above}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{path}.")
        else:
            yield path, json.dumps(value, ensure_ascii=False)
