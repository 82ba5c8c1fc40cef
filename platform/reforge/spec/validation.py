"""A validated job from a Source, or everything that is wrong with it in one go.

    types -- right --> job ----------------------\\
          \\- wrong --> job of the right options --+--> the parts' own problems() --> checks across parts
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from reforge.spec.diagnosis import diagnose
from reforge.spec.part import Part
from reforge.spec.problem import KeyPath, Problem, SpecError
from reforge.spec.salvage import Doubts, salvage
from reforge.spec.source import Source

P = TypeVar("P", bound=Part)
Remembered = dict[object, tuple[Problem, ...]]


def validate(
    model: type[P],
    source: Source,
    checks: Sequence[Callable[[P], Iterable[Problem]]] = (),
    remembered: Remembered | None = None,
) -> P:
    """The job that a source describes.

    checks: rules across parts, each from the whole job to what is wrong with it; paths from the job's root
    remembered: filled with what parts' own rules found, for the next of many jobs that share parts: some look at files
    Raises SpecError with all that is wrong in files and overrides, in types, in parts and across them.
    """
    diagnosis = diagnose(model, source)
    told = {problem.path for problem in source.problems}  # a key that was unreadable is not also missing
    problems = [*source.problems, *(p for p in diagnosis.problems if p.path not in told or source.root.find(p.path))]
    doubts = Doubts(frozenset(p.path for p in problems if p.path) | diagnosis.doubtful)
    if problems:
        job = salvage(model, source.data, doubts)
    else:
        job = model.model_validate_json(json.dumps(source.data), strict=True)
    problems += _broken_rules(job, checks, doubts, None if problems else remembered)
    if problems:
        raise SpecError([replace(p, place=p.place or source.place(p.path)) for p in problems], source.name)
    return job


def _broken_rules(
    job: P, checks: Sequence[Callable[[P], Iterable[Problem]]], doubts: Doubts, remembered: Remembered | None
) -> Iterator[Problem]:
    for path, part in _parts(job, ()):
        if remembered is None:
            yield from _beyond_doubt(part.problems, path, doubts)
            continue
        key = path, type(part), part.model_dump_json()
        if key not in remembered:
            remembered[key] = tuple(_beyond_doubt(part.problems, path, doubts))
        yield from remembered[key]
    for check in checks:
        yield from _beyond_doubt(functools.partial(check, job), (), doubts)


def _beyond_doubt(rules: Callable[[], Iterable[Problem]], path: KeyPath, doubts: Doubts) -> Iterator[Problem]:
    """What rules find, except where it rests on or repeats what is reported already."""
    doubts.forget()
    try:
        for found in rules():
            problem = replace(found, path=(*path, *found.path))
            if not doubts.met and not doubts.cover(problem.path):
                yield problem
            doubts.forget()
    except Doubts.Unknown:
        return


def _parts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, Part]]:
    """Every part within a value, itself first."""
    entries: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, Part):
        yield path, value
        entries = value.__dict__.items()
    elif isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, tuple | list):
        entries = enumerate(value)
    for key, item in entries:
        yield from _parts(item, (*path, key))
