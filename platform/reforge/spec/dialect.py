"""The YAML that specs are written in: 1.2's core scalars, where `1e-4` is a number and `no`, `off` and dates are text.

PyYAML alone follows YAML 1.1, with `1e-4` a string, `no` false and `12:30` the number 750.
Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

import re

import yaml

_TAG = "tag:yaml.org,2002:"
_MAX_INT_CHARS = 100  # no option is larger, and Python refuses to print ints of some thousand digits
_CORE_SCALARS = (  # in the order they are tried: every int would also do as a float
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class Loader(yaml.SafeLoader):
    """Composes YAML nodes whose tags follow the core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own protocol; add_implicit_resolver copies it)


class Dumper(yaml.SafeDumper):
    """Writes YAML that this dialect and YAML 1.1 readers take alike: text is quoted where either would see a number."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_sequence(dumper: yaml.SafeDumper, items: list[object]) -> yaml.SequenceNode:
    flat = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence(_TAG + "seq", items, flow_style=flat)


for _name, _pattern, _first in _CORE_SCALARS:
    # The empty scalar has no first character: PyYAML looks it up under "".
    _first_chars = ["" if char == "\0" else char for char in _first]
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first_chars)
Dumper.add_representer(list, _represent_sequence)


def scalar_kind(tag: str) -> str:
    """What a node's tag says: null, bool, int, float, str, map, seq; the tag itself where it is none of YAML's own."""
    return tag.removeprefix(_TAG)


def scalar_value(kind: str, text: str) -> object:
    """The value of a scalar.

    Raises ValueError where the text is no such scalar (`!!int six`) or the kind no scalar that a spec may hold.
    """
    match kind:
        case "str":
            return text
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" if len(text) <= _MAX_INT_CHARS:
            return int(text, base=0 if text.startswith(("0o", "0x")) else 10)
        case "float":
            return float(re.sub(r"(?i)\.(?=inf|nan)", "", text))
        case _:
            raise ValueError(f"{text!r} is no {kind}")


def is_number(text: str) -> bool:
    """Whether a plain scalar of this text would be a number."""
    return any(
        re.fullmatch(pattern, text) is not None for name, pattern, _ in _CORE_SCALARS if name in ("int", "float")
    )
