"""What decides a preparation's result, as a hash: options and the code that reads, encodes and packs."""

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

_CODE = ("reforge.corpora", "reforge.tokenizers", "reforge.batches")


def digest(value: object) -> str:
    """Hash of anything JSON can hold, keys sorted; 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def code_fingerprint(*parts: Callable[..., object]) -> str:
    """Hash of the source of every reforge module below the `batches` layer that these classes or functions are made of.

    The modules of the whole inheritance, and what those import in turn; registries are left out, so that a new corpus
    does not make another's preparation void.
    """
    modules: dict[str, str] = {}
    pending = [base.__module__ for part in parts for base in getattr(part, "__mro__", (part,))]
    while pending:
        name = pending.pop()
        if name in modules or not name.startswith(_CODE) or name in _CODE:
            continue
        modules[name] = inspect.getsource(sys.modules[name])
        pending += _imports(sys.modules[name], modules[name])
    return digest(modules)


def _imports(module: ModuleType, source: str) -> Iterator[str]:
    """Modules that a module names in its imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names if f"{name}.{alias.name}" in sys.modules)
