"""A search's file taken apart: the job spec that it extends, its `space` and `constraints`, and the rest.

kind: tune, extends: job.yaml      -> base: job.yaml with what the file says over it, its own kind
space, constraints                 -> two nodes, read by this layer
metric, search, scheduler, ...     -> rest: a Source that pydantic validates
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import get_args

from reforge.spec.part import Part
from reforge.spec.problem import Problem
from reforge.spec.source import Source
from reforge.spec.tree import Node

OWN = ("space", "constraints")


@dataclass(frozen=True)
class Sections:
    """The parts of a search's file.

    base: the job spec, without the problems that its text has
    rest: the sections about how to search
    """

    base: Source
    rest: Source
    space: Node | None
    constraints: Node | None


def divide(source: Source, job: type[Part], options: type[Part]) -> Sections:
    """Take a source, loaded with `dotted=("space",)`, apart by the fields that a job and a search's options have."""
    entries = source.root.value
    assert isinstance(entries, dict)
    of_search, of_job = options.model_fields.keys(), job.model_fields.keys()
    base, rest = {}, {}
    for key, node in entries.items():
        if key in of_job or (key not in OWN and key not in of_search and _nearer(key, of_job, of_search)):
            base[key] = node
        if key in of_search or (key not in OWN and key not in base):
            rest[key] = node
    if "kind" in entries:
        base["kind"] = source.base_kind or replace(entries["kind"], value=kind_of_job(job))
    return Sections(_only(source, base), _only(source, rest), entries.get("space"), entries.get("constraints"))


def kind_of_job(job: type[Part]) -> str:
    """What a job spec of this type calls itself."""
    (kind,) = get_args(job.model_fields["kind"].annotation)
    return str(kind)


def wrong_base(source: Source, job: type[Part]) -> list[Problem]:
    """A problem where the extended file is a spec of another kind of job."""
    kind = source.base_kind
    if kind is None or kind.value == kind_of_job(job):
        return []
    rule = f"a search of {kind_of_job(job)} jobs must extend a {kind_of_job(job)} spec"
    return [Problem(("kind",), rule, kind.plain(), place=kind.place)]


def _nearer(key: str, to: Collection[str], than: Collection[str]) -> bool:
    """Whether an unknown key looks more like a misspelt one of the first sort than of the second."""
    near = difflib.get_close_matches(key, [*than, *to], n=1)
    return bool(near) and near[0] in to


def _only(source: Source, entries: dict[str, Node]) -> Source:
    return replace(source, root=replace(source.root, value=entries), problems=())
