"""The language of constraints: expressions over key paths, read with Python's grammar and worked out by ourselves.

    model.d_model % model.num_heads == 0 and optimizer.lr * train.batch_size < 0.1

Names, numbers, text, lists, arithmetic, (chained) comparison, `in`, and/or/not, min, max, abs and nothing else; nothing
is ever given to eval. Length, depth and powers are bounded, so that no expression takes long.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 1_000
MAX_DEPTH = 40
MAX_EXPONENT = 64
MAX_BASE = 1_000_000
MAX_BITS = 2_000

Lookup = Callable[[str], object]  # the value at a key path; raises NoValue where there is none

_WORDS: Mapping[str, object] = {"true": True, "false": False, "null": None}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class NoValue(Exception):
    """A path of the expression has no value in this job."""


class Unsuitable(Exception):
    """An expression that cannot be read, or that does not fit the values it met; the text says where and why."""

    def __init__(self, text: str, node: ast.expr | None, rule: str, column: int = 1) -> None:
        if node is not None:  # ast counts in bytes
            column = len(text.encode()[: node.col_offset].decode(errors="ignore")) + 1
        super().__init__(f"column {column}: {rule}")


@dataclass(frozen=True, eq=False)
class Expression:
    """A constraint that has been read.

    paths: the key paths that it speaks of, in the order of their first appearance
    """

    text: str
    tree: ast.expr
    paths: tuple[str, ...]

    @property
    def relates(self) -> bool:
        """Whether it asks for an equality or a divisibility, which a draw hardly meets by chance."""
        return any(isinstance(node, ast.Eq | ast.Mod) for node in ast.walk(self.tree))

    def holds(self, lookup: Lookup) -> bool:
        """Whether it is true of these values.

        A division by 0 or a number beyond all bounds makes it false. Raises Unsuitable where the values have types
        that the expression cannot compare or calculate with, and NoValue as `lookup` does.
        """
        try:
            return self._truth(self.tree, lookup)
        except (ZeroDivisionError, OverflowError):
            return False

    def _value(self, node: ast.expr, lookup: Lookup) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._value(item, lookup) for item in items]
            case ast.Name() | ast.Attribute():
                path = _dotted(node)
                return _WORDS[path] if path in _WORDS else _listed(lookup(path))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                number = self._number(operand, lookup)
                return -number if isinstance(sign, ast.USub) else number
            case ast.BinOp(left=left, op=sign, right=right):
                return self._calculated(node, sign, self._number(left, lookup), self._number(right, lookup))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._called(node, name, [self._value(item, lookup) for item in arguments])
            case _:
                return self._truth(node, lookup)

    def _truth(self, node: ast.expr, lookup: Lookup) -> bool:
        match node:
            case ast.BoolOp(op=ast.And(), values=operands):
                return all(self._truth(operand, lookup) for operand in operands)
            case ast.BoolOp(values=operands):
                return any(self._truth(operand, lookup) for operand in operands)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._truth(operand, lookup)
            case ast.Compare():
                return self._compared(node, lookup)
        value = self._value(node, lookup)
        if not isinstance(value, bool):
            raise Unsuitable(self.text, node, f"must be true or false, such as a comparison; it is {value!r}")
        return value

    def _compared(self, node: ast.Compare, lookup: Lookup) -> bool:
        left = self._value(node.left, lookup)
        for sign, operand in zip(node.ops, node.comparators, strict=True):
            right = self._value(operand, lookup)
            if isinstance(sign, _ORDERS) and not (_is_number(left) and _is_number(right)):
                raise Unsuitable(self.text, operand, f"only numbers have an order; got {left!r} and {right!r}")
            if isinstance(sign, ast.In | ast.NotIn) and not isinstance(right, list):
                raise Unsuitable(self.text, operand, f"`in` needs a list; got {right!r}")
            if not _COMPARISONS[type(sign)](left, right):
                return False
            left = right
        return True

    def _number(self, node: ast.expr, lookup: Lookup) -> Any:
        value = self._value(node, lookup)
        if not _is_number(value):
            raise Unsuitable(self.text, node, f"must be a number to calculate with; it is {value!r}")
        return value

    def _calculated(self, node: ast.expr, sign: ast.operator, left: Any, right: Any) -> Any:
        if isinstance(sign, ast.Pow) and (abs(right) > MAX_EXPONENT or abs(left) > MAX_BASE):
            raise OverflowError
        result = _ARITHMETIC[type(sign)](left, right)
        if isinstance(result, int) and result.bit_length() > MAX_BITS:
            raise OverflowError
        if not _is_number(result):  # (-8) ** 0.5
            raise Unsuitable(self.text, node, f"{left!r} ** {right!r} is no real number")
        return result

    def _called(self, node: ast.expr, name: str, arguments: list[Any]) -> Any:
        if name != "abs" and len(arguments) == 1 and isinstance(arguments[0], list):
            (arguments,) = arguments  # the greatest of a list
        if not arguments or not all(map(_is_number, arguments)) or (name == "abs" and len(arguments) != 1):
            raise Unsuitable(self.text, node, f"{name} takes {'a number' if name == 'abs' else 'numbers'}")
        return abs(arguments[0]) if name == "abs" else _FUNCTIONS[name](arguments)


def read_expression(text: str) -> Expression:
    """The expression that a text stands for; raises Unsuitable, with the column, where it is none."""
    text = " ".join(text.splitlines()).strip()
    if not text:
        raise Unsuitable(text, None, "empty; must be an expression such as model.d_model % model.num_heads == 0")
    if len(text) > MAX_CHARS:
        raise Unsuitable(text, None, f"longer than {MAX_CHARS} characters", MAX_CHARS + 1)
    tree = _parsed(text)
    paths: dict[str, None] = {}
    for path in _checked(tree, text, 0):
        paths[path] = None
    if isinstance(tree, ast.BinOp | ast.List | ast.Tuple) or (
        isinstance(tree, ast.Constant) and tree.value is not True
    ):
        raise Unsuitable(text, tree, "is neither true nor false; a comparison is missing, such as == 0")
    if not paths:
        raise Unsuitable(text, tree, "names no parameter")
    return Expression(text, tree, tuple(paths))


def _parsed(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():  # `1 is 1` makes Python warn of what we refuse anyway
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise Unsuitable(text, None, f"not an expression: {error.msg}", error.offset or len(text)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unsuitable(text, None, f"not an expression: {error or 'nested too deeply'}") from None


def _checked(node: ast.expr, text: str, depth: int) -> Iterator[str]:
    """Every path below a node; raises Unsuitable at the first thing that the language does not have."""
    if depth > MAX_DEPTH:
        raise Unsuitable(text, node, f"nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Name() | ast.Attribute() if path := _dotted(node):
            if path not in _WORDS:
                yield path
            return
        case ast.Constant(value=value):
            if not (value is None or isinstance(value, bool | int | float | str)):
                raise Unsuitable(text, node, "only numbers, text in quotes, true, false and null are values")
        case ast.Call(func=function, args=arguments, keywords=keywords):
            if not isinstance(function, ast.Name) or function.id not in _FUNCTIONS or keywords:
                raise Unsuitable(text, node, f"the functions are {', '.join(_FUNCTIONS)}")
            for argument in arguments:
                yield from _checked(argument, text, depth + 1)
            return
        case ast.Compare(ops=signs) if not all(type(sign) in _COMPARISONS for sign in signs):
            raise Unsuitable(text, node, "`is` compares nothing here; write ==")
        case ast.BinOp(op=sign) if type(sign) not in _ARITHMETIC:
            raise Unsuitable(text, node, "the arithmetic is + - * / // % **")
        case ast.UnaryOp(op=ast.Invert()):
            raise Unsuitable(text, node, "~ has no meaning here; write not")
        case ast.BoolOp() | ast.Compare() | ast.BinOp() | ast.UnaryOp() | ast.List() | ast.Tuple():
            pass
        case _:
            what = "names, numbers, text, lists, arithmetic, comparison, and/or/not, min, max and abs"
            raise Unsuitable(text, node, f"not allowed; a constraint is made of {what}")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _checked(child, text, depth + 1)


def _dotted(node: ast.expr) -> str:
    """The key path that a chain of names is; empty where it is none."""
    if isinstance(node, ast.Name):
        return node.id
    above = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(value: object) -> object:
    """A tuple as the list that YAML would have it."""
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
