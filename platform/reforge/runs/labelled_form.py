"""Labelled sets that a command names: in the form of the run's own data, or as its words say.

FILE --kind KIND key=value ...  --form_of--> options that read FILE
RUN alone                       --own_set--> what the run was scored on in the end
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reforge.corpora.labelled import LABELLED, AnyLabelled, Example, LabelledOptions
from reforge.corpora.records import nearest
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.predictor import Predictor
from reforge.spec import Part, Problem, Source, UserError, load_source
from reforge.spec.diagnosis import diagnose
from reforge.spec.tree import Node, NotReadable, read_tree
from reforge.tasks.data import Sets

_PLACE = "command line"


class _Form(Part):
    """What the words of a command describe; `data` is the set."""

    data: AnyLabelled


def form_of(predictor: Predictor, file: Path, kind: str | None, words: Sequence[str]) -> LabelledOptions:
    """How `file` is read: as the run's own test (else validation, else training) set, or as a set of `kind`.

    words: options, key=value, over those of the run's own set where that is of the same kind
    Raises UserError with a line for each that cannot be, and at a set that the run's task does not take.
    """
    own = predictor.data[next(name for name in ("test", "valid", "train") if name in predictor.data)]
    if kind is None and not words:
        return own
    if kind is not None and kind not in LABELLED:
        raise UserError(f"--kind: must be one of {', '.join(LABELLED)}; got {kind}{nearest(kind, LABELLED)}")
    values = own.model_dump(mode="json") if kind in (None, own.kind) else {"kind": kind}
    if "path" in LABELLED[values["kind"]].model_fields:
        values["path"] = str(file)
    form = _parsed({**{key: _node(value) for key, value in values.items()}, **_options(words)})
    if form.gives != predictor.options.gives:
        wanted = f"the run's task, {predictor.kind}, takes {predictor.options.gives}"
        raise UserError(f"--kind: {wanted}; {form.kind} is a set of {form.gives}")
    return form


def own_set(predictor: Predictor) -> tuple[str, list[Example]]:
    """The set that the run's final scores are of, and its name: "test", or "valid" where it has no other."""
    spec = predictor.folder.spec
    try:
        job = FinetuneJob.model_validate_json(json.dumps(load_source(spec).data))
    except ValidationError as error:
        raise UserError(f"{spec} is not of this version of reforge; name a file: --data FILE") from error
    sets = Sets.read(job.data)
    return ("test", sets.test) if sets.test else ("valid", sets.valid)


def _options(words: Iterable[str]) -> dict[str, Node]:
    nodes = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"an option of the set must have the form key=value, got {word!r}")
        try:
            nodes[key], problems = read_tree(value, lambda _: _PLACE)
        except NotReadable as error:
            raise UserError(f"{key}: {error.problem.rule}") from None
        if problems:
            raise UserError(_lines(replace(problem, path=(key, *problem.path)) for problem in problems))
    return nodes


def _parsed(nodes: dict[str, Node]) -> LabelledOptions:
    """The options; whether the file can be read is seen when it is, with or without its labels."""
    source = Source(_PLACE, Node({"data": Node(nodes, _PLACE)}, _PLACE))
    if problems := diagnose(_Form, source).problems:
        raise UserError(_lines(replace(problem, path=problem.path[1:]) for problem in problems))
    form: LabelledOptions = _Form.model_validate_json(json.dumps(source.data), strict=True).data
    if broken := list(form.rules()):
        raise UserError(_lines(broken))
    return form


def _lines(problems: Iterable[Problem]) -> str:
    return "\n".join(str(replace(problem, place=None)) for problem in problems)


def _node(value: Any) -> Node:
    """A value of options as the tree of a spec has it."""
    if isinstance(value, dict):
        return Node({key: _node(item) for key, item in value.items()}, _PLACE)
    return Node([_node(item) for item in value] if isinstance(value, list) else value, _PLACE)
