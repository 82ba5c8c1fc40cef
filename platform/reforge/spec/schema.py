"""What a model takes at a key path, said in words; read from the JSON schema that pydantic derives from the types.

JSON schema rather than pydantic's error messages, because it holds the whole rule of a field ("an integer >= 1 or
'auto'") and not only the part of it that the value broke first.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from reforge.spec.problem import KeyPath, show_value

Fragment = Mapping[str, Any]  # a piece of JSON schema, references resolved
_ANYTHING: Fragment = {}
_PLURALS = {"a number": "numbers", "an integer": "integers", "a string": "strings", "a path": "paths"}
_BOUNDS = (
    ("minimum", ">="),
    ("exclusiveMinimum", ">"),
    ("maximum", "<="),
    ("exclusiveMaximum", "<"),
    ("multipleOf", "a multiple of"),
)


class _Generator(GenerateJsonSchema):
    """Leaves unnamed what JSON schema has no word for, rather than fail on it."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


class Schema:
    """The options that a model takes, by key path."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.root: Fragment = model.model_json_schema(schema_generator=_Generator)
        self._definitions: Mapping[str, Fragment] = self.root.get("$defs", {})
        if "$ref" in self.root:  # a model that holds itself
            self.root = self.resolve(self.root)

    def resolve(self, fragment: Fragment) -> Fragment:
        """The fragment that a reference leads to; any other as it is."""
        while "$ref" in fragment:
            fragment = self._definitions[fragment["$ref"].rpartition("/")[2]]
        return fragment

    def alternatives(self, fragment: Fragment) -> list[Fragment]:
        """The fragments of which a value must fit one: those of a union, or the only one."""
        fragment = self.resolve(fragment)
        if "anyOf" not in fragment:
            return [fragment]
        return [nested for item in fragment["anyOf"] for nested in self.alternatives(item)]

    def kinds(self, fragment: Fragment) -> dict[str, Fragment]:
        """The parts among which `kind` chooses, by kind; {} where it chooses nothing."""
        return {
            kind: self.resolve({"$ref": reference})
            for item in self.alternatives(fragment)
            for kind, reference in item.get("discriminator", {}).get("mapping", {}).items()
        }

    def mapping(self, fragment: Fragment, data: object) -> Fragment | None:
        """The fragment with the properties that the mapping `data` may have; None where it may be no mapping."""
        if kinds := self.kinds(fragment):
            kind = data.get("kind") if isinstance(data, dict) else None
            return kinds.get(kind) if isinstance(kind, str) else None
        mappings = (item for item in self.alternatives(fragment) if item.get("type") == "object")
        return next(mappings, None)

    def step(self, fragment: Fragment, key: str | int, data: object) -> Fragment:
        """The fragment for the entry `key` of `data`, which `fragment` is for."""
        if isinstance(key, str):
            mapping = self.mapping(fragment, data) or _ANYTHING
            rest = mapping.get("additionalProperties")
            found = mapping.get("properties", {}).get(key, rest if isinstance(rest, dict) else _ANYTHING)
            return self.resolve(found)
        for item in self.alternatives(fragment):
            fixed = item.get("prefixItems", [])
            if item.get("type") == "array":
                return self.resolve(fixed[key] if key < len(fixed) else item.get("items", _ANYTHING))
        return _ANYTHING

    def holders(self, name: str, data: object) -> Iterator[KeyPath]:
        """The paths of every option called `name` that the spec `data` could hold, given the kinds it chose."""
        yield from self._holders(name, self.root, data, (), ())

    def _holders(
        self, name: str, fragment: Fragment, data: object, path: KeyPath, above: tuple[int, ...]
    ) -> Iterator[KeyPath]:
        mapping = self.mapping(fragment, data)
        if mapping is None or id(mapping) in above:
            return
        entries = data if isinstance(data, dict) else {}
        for key, child in mapping.get("properties", {}).items():
            if key == name:
                yield (*path, key)
            yield from self._holders(name, child, entries.get(key), (*path, key), (*above, id(mapping)))

    def describe(self, fragment: Fragment) -> str:
        """What a value must be: "an integer >= 1 or 'auto'"."""
        kinds = ", ".join(self.kinds(fragment))
        words = [f"a mapping with a kind ({kinds})"] if kinds else []
        alternatives = [item for item in self.alternatives(fragment) if "discriminator" not in item]
        nullable = any(item.get("type") == "null" for item in alternatives)
        words += [self._describe_one(item) for item in alternatives if item.get("type") != "null"]
        return _either([*dict.fromkeys(words), *(["null"] if nullable else [])])

    def choices(self, fragment: Fragment) -> list[str]:
        """The texts that a value may be, where the rule lists them."""
        values = [
            value
            for item in self.alternatives(fragment)
            for value in item.get("enum", [item["const"]] if "const" in item else [])
        ]
        return [value for value in values if isinstance(value, str)]

    def _describe_one(self, item: Fragment) -> str:
        if "const" in item or "enum" in item:
            return _either([show_value(value) for value in item.get("enum", [item.get("const")])])
        match item.get("type"):
            case "boolean":
                return "true or false"
            case "integer":
                return _bounded("an integer", item)
            case "number":
                return _bounded("a number", item)
            case "string":
                return _describe_text(item)
            case "array":
                return self._describe_list(item)
            case "object" if isinstance(item.get("additionalProperties"), dict):
                return f"a mapping of names to {_plural(self.describe(item['additionalProperties']))}"
            case "object":
                return "a mapping"
            case _:
                return "a valid value"

    def _describe_list(self, item: Fragment) -> str:
        if "prefixItems" in item:
            items = [self.describe(child) for child in item["prefixItems"]]
            return f"a list of {len(items)}: {', '.join(items)}"
        what = _plural(self.describe(item.get("items", _ANYTHING)))
        low, high = item.get("minItems"), item.get("maxItems")
        if low is None and high is None:
            return f"a list of {what}"
        return f"a list of {_range(low, high)} {what}"


@lru_cache(maxsize=32)
def schema_of(model: type[BaseModel]) -> Schema:
    """The Schema of a model, made once: for a whole job it takes pydantic a quarter of a second."""
    return Schema(model)


def _bounded(noun: str, item: Fragment) -> str:
    bounds = " and ".join(f"{sign} {item[name]:g}" for name, sign in _BOUNDS if name in item)
    return f"{noun} {bounds}" if bounds else noun


def _describe_text(item: Fragment) -> str:
    low, high = item.get("minLength"), item.get("maxLength")
    if "pattern" in item:
        return f"a string that matches {item['pattern']}"
    if "format" in item:
        return f"a {item['format']}"
    if (low, high) == (1, None):
        return "a string that is not empty"
    return "a string" if low is None and high is None else f"a string of {_range(low, high)} characters"


def _range(low: int | None, high: int | None) -> str:
    if low == high:
        return f"exactly {low}"
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if not low else f"{low} to {high}"


def _plural(what: str) -> str:
    for one, many in _PLURALS.items():
        if what == one or what.startswith(one + " "):
            return many + what.removeprefix(one)
    return f"values, each {what}"


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "a valid value"
