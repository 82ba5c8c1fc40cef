"""The `constraints:` section: expressions over key paths that every job of a search must make true."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reforge.search.expression import Expression, Lookup, NoValue, Unsuitable, read_expression
from reforge.spec.problem import Problem
from reforge.spec.schema import Fragment, Schema
from reforge.spec.tree import Node

Fill = Callable[[str, Mapping[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, eq=False)
class Constraint:
    """One expression, and where in the spec it stands."""

    expression: Expression
    index: int = 0
    place: str | None = None

    @classmethod
    def of(cls, text: str) -> "Constraint":
        """The constraint that a text stands for; raises Unsuitable where it is no expression."""
        return cls(read_expression(text))

    @property
    def text(self) -> str:
        """As it is written."""
        return self.expression.text

    def holds(self, lookup: Lookup) -> bool:
        """Whether a job's values make it true; a constraint on options that the job does not have is met.

        Raises Unsuitable where it cannot be worked out with values of these types.
        """
        try:
            return self.expression.holds(lookup)
        except NoValue:
            return True

    def problem(self, rule: str, nearest: str | None = None) -> Problem:
        """What is wrong with it."""
        return Problem(("constraints", self.index), rule, self.text, nearest, self.place)


def read_constraints(node: Node | None) -> tuple[list[Constraint], list[Problem]]:
    """The constraints of a section, and what is wrong with the others."""
    if node is None or node.value is None:
        return [], []
    if not isinstance(node.value, list):
        rule = "must be a list of expressions"
        return [], [Problem(("constraints",), rule, node.plain(), place=node.place)]
    found: list[Constraint] = []
    problems: list[Problem] = []
    for index, item in enumerate(node.value):
        try:
            if not isinstance(item.value, str):
                raise Unsuitable("", None, "must be an expression; in YAML put quotes around it")
            found.append(Constraint(read_expression(item.value), index, item.place))
        except Unsuitable as error:
            problems.append(Problem(("constraints", index), str(error), item.plain(), place=item.place))
    return found, problems


class JobValues:
    """What a job has at its key paths: what is assigned, else what the base spec says, else the option's default.

    assigned: {key path: value}
    base: the base spec as plain mappings, or a whole job's dump
    fill: from an assignment to a whole job's dump, None where it is no job; for what a name such as `size` stands for
    """

    def __init__(
        self,
        assigned: Mapping[str, Any],
        base: Mapping[str, Any],
        schema: Schema | None = None,
        fill: Fill | None = None,
    ) -> None:
        self._assigned, self._base, self._schema, self._fill = assigned, base, schema, fill

    def __call__(self, path: str) -> object:
        """The value at a path; raises NoValue where the job has no such option."""
        if path in self._assigned:
            return self._assigned[path]
        keys = path.split(".")
        for length in range(1, len(keys)):
            above = ".".join(keys[:length])
            if above in self._assigned:
                return _below(self._assigned[above], keys[length:])
        try:
            return _below(self._base, keys, self._assigned)
        except NoValue:
            whole = self._fill(path, self._assigned) if self._fill else None
            return self._default(keys) if whole is None else _below(whole, keys)

    def _default(self, keys: list[str]) -> object:
        fragment: Fragment = self._schema.root if self._schema else {}
        for index, key in enumerate(keys):
            kind = self._kind(keys[:index])
            mapping = self._schema.mapping(fragment, {"kind": kind}) if self._schema else None
            option = (mapping or {}).get("properties", {}).get(key)
            if option is None:
                break
            if "default" in option:
                if index == len(keys) - 1:
                    return option["default"]
                if isinstance(option["default"], dict) and kind_of(option["default"]) is None:
                    return _below(option["default"], keys[index + 1 :])
            assert self._schema is not None
            fragment = self._schema.resolve(option)
        raise NoValue(".".join(keys))

    def _kind(self, above: list[str]) -> object:
        assigned = self._assigned.get(".".join([*above, "kind"]))
        if assigned is not None:
            return assigned
        try:
            return _below(self._base, [*above, "kind"])
        except NoValue:
            return None


def kind_of(value: object) -> object:
    """The `kind` of a mapping, None where it has none."""
    return value.get("kind") if isinstance(value, dict) else None


def _below(value: Any, keys: list[str], assigned: Mapping[str, Any] | None = None) -> object:
    """The value at a path below a mapping, unless the mapping around it is of another kind than the one assigned."""
    for index, key in enumerate(keys):
        kind = (assigned or {}).get(".".join([*keys[:index], "kind"]))
        of_other_kind = kind is not None and kind_of(value) not in (None, kind)
        if of_other_kind or not isinstance(value, Mapping) or key not in value:
            raise NoValue(".".join(keys))
        value = value[key]
    return value
