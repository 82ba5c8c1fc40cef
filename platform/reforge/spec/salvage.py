"""A job made of what is right in a wrong spec, so that its rules can be checked along with its types.

A part with a wrong option stands in with that option's default, or without it. It notes when a rule reads such an
option: what the rule then says is not to be relied on, and the option itself has been reported already.
"""

import json
import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from reforge.spec.part import OneOf, Part
from reforge.spec.problem import KeyPath

P = TypeVar("P", bound=Part)


class _Unknown(Exception):
    """A rule read an option that the spec gives no usable value for, and that has no default."""


class Doubts:
    """The options that nothing can be concluded from, and whether one was read since `forget`."""

    Unknown = _Unknown

    def __init__(self, paths: frozenset[KeyPath]) -> None:
        self.paths = paths
        self.met = False

    def forget(self) -> None:
        """Count from here."""
        self.met = False

    def cover(self, path: KeyPath) -> bool:
        """Whether `path` is doubtful or lies within something that is."""
        return any(path[:length] in self.paths for length in range(1, len(path) + 1))

    def within(self, path: KeyPath) -> bool:
        """Whether `path` is doubtful or holds something that is."""
        return any(doubtful[: len(path)] == path for doubtful in self.paths)


def salvage(model: type[P], data: Mapping[str, object], doubts: Doubts, path: KeyPath = ()) -> P:
    """An instance of `model` from the options in `data` that are beyond doubt."""
    values: dict[str, Any] = {}
    unknown: set[str] = set()
    for name, field in model.model_fields.items():
        here = (*path, name)
        if here in doubts.paths:
            unknown.add(name)
        elif name in data:
            annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            try:
                values[name] = _value(annotation, data[name], doubts, here)
            except _Unknown:
                unknown.add(name)
        elif field.is_required():
            unknown.add(name)
    return cast("P", _watched(model, frozenset(unknown), doubts).model_construct(**values))


def _value(annotation: Any, data: object, doubts: Doubts, path: KeyPath) -> object:
    if not doubts.within(path):
        try:
            return TypeAdapter(annotation).validate_json(json.dumps(data), strict=True)
        except ValidationError:
            raise _Unknown from None
    if isinstance(data, dict) and (part := _part_type(annotation, data)):
        return salvage(part, data, doubts, path)
    if isinstance(data, list) and get_origin(annotation) is tuple and get_args(annotation)[1:] == (...,):
        item_type = get_args(annotation)[0]
        return tuple(_value(item_type, item, doubts, (*path, index)) for index, item in enumerate(data))
    raise _Unknown


def _part_type(annotation: Any, data: Mapping[str, object]) -> type[Part] | None:
    """The part that a mapping is for, in a field of this type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        registries = [mark.registry for mark in metadata if isinstance(mark, OneOf)]
        return registries[0].get(str(data.get("kind"))) if registries else _part_type(inner, data)
    if origin in (Union, types.UnionType):
        return next(filter(None, (_part_type(member, data) for member in get_args(annotation))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Part) else None


def _watched(model: type[P], unknown: frozenset[str], doubts: Doubts) -> type[P]:
    """A subclass of `model` that notes every reading of the unknown options.

    A subclass, not a proxy: isinstance, super() and the part's own methods go on working within its rules.
    """
    if not unknown:
        return model

    def get_attribute(self: Any, name: str) -> Any:
        if name in unknown:
            doubts.met = True
            if name not in self.__dict__:
                raise _Unknown(name)
        return object.__getattribute__(self, name)

    namespace = {"__module__": model.__module__, "__getattribute__": get_attribute}
    return cast("type[P]", types.new_class(model.__name__, (model,), exec_body=lambda body: body.update(namespace)))
