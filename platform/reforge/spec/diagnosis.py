"""From pydantic's errors to Problems in the words of the spec: no type names of Python's, no paths through unions."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from reforge.spec.dialect import is_number
from reforge.spec.part import Part
from reforge.spec.problem import MISSING, KeyPath, Problem, show_path
from reforge.spec.schema import Fragment, Schema, schema_of
from reforge.spec.source import Source

_UNKNOWN_KIND = ("union_tag_invalid", "union_tag_not_found")
_OWN_WORDS = ("value_error", "assertion_error")  # raised by a validator that a part brings along
_PYDANTICS = frozenset(get_args(ErrorType)).difference(_OWN_WORDS)


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a spec as far as types can say.

    doubtful: paths of options that were left out, but probably meant by a misspelt key: their defaults prove nothing
    """

    problems: tuple[Problem, ...] = ()
    doubtful: frozenset[KeyPath] = frozenset()


def diagnose(model: type[Part], source: Source) -> Diagnosis:
    """Check a spec's types: a Problem for each value that must change.

    Lists are taken for tuples and text for paths, as JSON would have them; nothing else is converted.
    """
    data = source.data
    try:
        model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return _Examination(schema_of(model), source, data).diagnosis(error.errors(include_url=False))
    return Diagnosis()


@dataclass(frozen=True)
class _Spot:
    """Where an error is.

    value: what the spec holds there
    fragment, around: what the schema says there, and for the mapping or list around
    data_around: that mapping or list
    in_union: whether the error is that of one type out of several that pydantic tried on the value
    """

    path: KeyPath
    value: object
    fragment: Fragment
    around: Fragment
    data_around: object
    in_union: bool = False


class _Examination:
    def __init__(self, schema: Schema, source: Source, data: dict[str, object]) -> None:
        self._schema = schema
        self._source = source
        self._data = data
        self._doubtful: set[KeyPath] = set()

    def diagnosis(self, errors: Iterable[ErrorDetails]) -> Diagnosis:
        """One problem a path: every type of a union complains of the same value."""
        found: dict[KeyPath, Problem] = {}
        in_union: set[KeyPath] = set()
        for error in errors:
            spot = self._locate(error)
            problem = self._problem(error, spot)
            found.setdefault(problem.path, problem)
            if spot.in_union:
                in_union.add(problem.path)
        # Of `Scale or 'auto'` a mapping is the Scale: what is wrong inside it says more than "must be 'auto'".
        problems = [found[path] for path in found if path not in in_union or not _any_below(path, found)]
        return Diagnosis(tuple(problems), frozenset(self._doubtful))

    def _locate(self, error: ErrorDetails) -> _Spot:
        """Follow an error's location through data and schema.

        The location also names the kinds and the types of unions that it went through; those are no keys.
        """
        spot = _Spot((), self._data, self._schema.root, {}, None)
        kind_is_next = bool(self._schema.kinds(spot.fragment))
        location = error["loc"]
        in_union = False
        for index, key in enumerate(location):
            is_missing = error["type"] == "missing" and index == len(location) - 1
            if kind_is_next and isinstance(spot.value, dict) and spot.value.get("kind") == key:
                kind_is_next = False
            elif not is_missing and not _has(spot.value, key):
                in_union = True
            else:
                spot = self._step(spot, key)
                kind_is_next, in_union = bool(self._schema.kinds(spot.fragment)), False
        return replace(spot, in_union=in_union)

    def _step(self, spot: _Spot, key: str | int) -> _Spot:
        fragment = self._schema.step(spot.fragment, key, spot.value)
        return _Spot((*spot.path, key), _get(spot.value, key), fragment, spot.fragment, spot.value)

    def _problem(self, error: ErrorDetails, spot: _Spot) -> Problem:
        kind = error["type"]
        if kind == "extra_forbidden":
            return self._unknown_key(spot)
        if kind in _UNKNOWN_KIND and isinstance(spot.value, dict):
            return self._unknown_kind(spot, spot.value)
        if kind == "missing" and isinstance(spot.path[-1], int):  # a list too short: no item can be pointed to
            return Problem(spot.path[:-1], f"must be {self._schema.describe(spot.around)}", spot.data_around)
        if kind == "missing":
            return Problem(spot.path, f"missing; must be {self._schema.describe(spot.fragment)}")
        if kind in _PYDANTICS:
            return self._wrong_value(spot, kind)
        rule = str(error["ctx"]["error"]) if kind in _OWN_WORDS else error["msg"]
        return Problem(spot.path, rule, MISSING if isinstance(spot.value, dict) else spot.value)

    def _wrong_value(self, spot: _Spot, error_type: str) -> Problem:
        rule = f"must be {self._schema.describe(spot.fragment)}"
        if error_type == "finite_number":
            rule = rule.replace("a number", "a finite number")
        types = {item.get("type") for item in self._schema.alternatives(spot.fragment)}
        if isinstance(spot.value, str) and types & {"integer", "number"} and is_number(spot.value):
            rule += ", without quotes"
        if isinstance(spot.value, bool | int | float) and "string" in types and not self._schema.choices(spot.fragment):
            rule += ", in quotes"
        nearest = _nearest(spot.value, self._schema.choices(spot.fragment))
        return Problem(spot.path, rule, spot.value, nearest)

    def _unknown_kind(self, spot: _Spot, value: dict[str, object]) -> Problem:
        kinds = list(self._schema.kinds(spot.fragment))
        path = (*spot.path, "kind")
        if "kind" not in value:
            return Problem(path, f"missing; must be one of {', '.join(kinds)}")
        got = value["kind"]
        return Problem(path, f"unknown kind; must be one of {', '.join(kinds)}", got, _nearest(got, kinds))

    def _unknown_key(self, spot: _Spot) -> Problem:
        *parent, key = spot.path
        place = self._source.key_place(spot.path)
        if key == "extends":
            return Problem(spot.path, "must stand at the top level of a file", place=place)
        if others := self._kinds_with(str(key), spot):
            chosen = _get(spot.data_around, "kind")
            return Problem(spot.path, f"unknown key for kind {chosen}; an option of kind {others}", place=place)
        siblings = list((self._schema.mapping(spot.around, spot.data_around) or {}).get("properties", {}))
        meant = self._meant(str(key), spot, siblings)
        if meant is None:
            return Problem(spot.path, f"unknown key; the keys here are {', '.join(siblings)}", place=place)
        if self._source.root.find(meant) is None:
            self._doubtful.add(meant)
        nearest = show_path(meant if meant[:-1] != tuple(parent) else meant[-1:])
        return Problem(spot.path, "unknown key", nearest=nearest, place=place)

    def _kinds_with(self, key: str, spot: _Spot) -> str:
        chosen = _get(spot.data_around, "kind")
        kinds = self._schema.kinds(spot.around).items()
        return ", ".join(kind for kind, part in kinds if kind != chosen and key in part.get("properties", {}))

    def _meant(self, key: str, spot: _Spot, siblings: list[str]) -> KeyPath | None:
        """The option that an unknown key was probably meant for: nearly of that name here, or of that name elsewhere.

        Short names are all alike, so `lr` is looked for elsewhere before it is taken for a misspelt neighbour.
        """
        unused = [name for name in siblings if not _has(spot.data_around, name)]
        here = _nearest(key, unused, cutoff=0.8) if len(key) > 3 else None
        elsewhere = next(self._schema.holders(key, self._data), None)
        if here is None and elsewhere is not None:
            return elsewhere
        # A slip of a letter is of the key that it looks like, though the spec has that one too.
        here = here or _nearest(key, siblings, cutoff=0.9) or _nearest(key, unused) or _nearest(key, siblings)
        return (*spot.path[:-1], here) if here else None


def _has(value: object, key: str | int) -> bool:
    if isinstance(value, dict):
        return key in value
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def _get(value: object, key: str | int) -> object:
    if isinstance(value, dict):
        return value.get(key)
    return value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else None


def _any_below(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in others)


def _nearest(word: object, words: Iterable[str], cutoff: float = 0.6) -> str | None:
    if not isinstance(word, str):
        return None
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)), None)
