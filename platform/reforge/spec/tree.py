"""YAML text as a tree of values that each know the file and line they came from.

    text -- PyYAML compose --> YAML nodes -- Reader --> Node tree + problems

What YAML lets pass in silence (a key given twice, a merge key, a tag) becomes a Problem here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import yaml

from reforge.spec.dialect import Loader, scalar_kind, scalar_value
from reforge.spec.problem import MISSING, KeyPath, Problem

_MAX_DEPTH = 50
_MAX_VALUES = 20_000  # a few lines of aliases of aliases can stand for billions


@dataclass(frozen=True)
class Node:
    """A value of a spec: a mapping or list of Nodes, or a scalar, and where it and its key stand.

    implied: a mapping that nobody wrote, only passed through by the key path of an override
    """

    value: "dict[str, Node] | list[Node] | object"
    place: str
    key_place: str | None = None
    implied: bool = False

    @property
    def kind(self) -> object:
        """The `kind` that a mapping names, else MISSING."""
        child = self.value.get("kind") if isinstance(self.value, dict) else None
        return child.value if isinstance(child, Node) else MISSING

    def children(self) -> Iterator[tuple[str | int, "Node"]]:
        """The entries of a mapping or a list by key; none of a scalar."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)

    def child(self, key: str | int) -> "Node | None":
        """The entry under `key`; None where there is none."""
        return dict(self.children()).get(key)

    def find(self, path: KeyPath) -> "Node | None":
        """The value at a key path from here; None where nobody gave one."""
        node: Node | None = self
        for key in path:
            node = node.child(key) if node else None
        return node

    def plain(self) -> object:
        """The same in Python's own dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class NotReadable(Exception):
    """The text as a whole cannot be taken for a spec; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_tree(text: str, place_of_line: Callable[[int], str]) -> tuple[Node, list[Problem]]:
    """The tree of a YAML text, and the problems that leave the rest of it readable.

    place_of_line: 1-based line -> "file:line", or whatever else the text's place is called
    Raises NotReadable where there is no tree to go on with.
    """
    root = _compose(text, place_of_line)
    if root is None:
        return Node(None, place_of_line(1)), []
    reader = _Reader(place_of_line)
    return reader.node(root, (), None), reader.problems


def _compose(text: str, place_of_line: Callable[[int], str]) -> yaml.Node | None:
    loader: Loader | None = None
    try:
        loader = Loader(text)
        root: yaml.Node | None = loader.get_single_node()
        return root
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        rule = f"not YAML: character U+{ord(text[error.position]):04X} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        rule = "not YAML: " + _explain(error)
    except RecursionError:
        line, rule = 1, "nested too deeply"
    except (ValueError, OverflowError):  # PyYAML lets chr() raise on an escape beyond Unicode
        line = loader.line + 1 if loader else 1
        rule = "not YAML: an escape sequence names no character"
    raise NotReadable(Problem((), rule, place=place_of_line(line)))


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem).replace("but got '<stream end>'", "but the file ends")
    if "character '\\t'" in problem:
        return "a tab where only spaces may indent or separate"
    if error.context and error.context_mark and error.problem_mark:
        since = f" that starts on line {error.context_mark.line + 1}"
        return f"{error.context}{since if error.context_mark.line != error.problem_mark.line else ''}: {problem}"
    return problem


class _Reader:
    """Turns YAML nodes into a Node tree and collects what is wrong on the way."""

    def __init__(self, place_of_line: Callable[[int], str]) -> None:
        self.problems: list[Problem] = []
        self._place_of_line = place_of_line
        self._open: list[int] = []  # ids of the collections around the present node: an alias to one never ends
        self._num_values = 0

    def node(self, yaml_node: yaml.Node, path: KeyPath, key_place: str | None) -> Node:
        place = self._place(yaml_node)
        if id(yaml_node) in self._open:
            raise NotReadable(Problem(path, "an alias may not stand inside what it names", place=place))
        self._num_values += 1
        if self._num_values > _MAX_VALUES or len(self._open) > _MAX_DEPTH:
            raise NotReadable(Problem(path[:1], "nested too deeply, or too many values through aliases", place=place))
        if isinstance(yaml_node, yaml.ScalarNode):
            return Node(self._scalar(yaml_node, path), place, key_place)
        self._open.append(id(yaml_node))
        value = self._collection(yaml_node, path)
        self._open.pop()
        return Node(value, place, key_place)

    def _collection(self, yaml_node: yaml.Node, path: KeyPath) -> "dict[str, Node] | list[Node]":
        kind = scalar_kind(yaml_node.tag)
        if kind not in ("map", "seq"):
            self._report(yaml_node, path, f"the tag {kind} has no meaning in a spec")
        if isinstance(yaml_node, yaml.MappingNode):
            return self._mapping(yaml_node, path)
        return [self.node(item, (*path, index), None) for index, item in enumerate(yaml_node.value)]

    def _mapping(self, yaml_node: yaml.MappingNode, path: KeyPath) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in yaml_node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            node = self.node(value_node, (*path, key), self._place(key_node))
            if key in entries:
                first = entries[key].key_place
                self._report(key_node, (*path, key), f"the key stands twice; the first time at {first}")
                node = overlay(entries[key], node)  # so that what is wrong inside either is found as well
            entries[key] = node
        return entries

    def _key(self, key_node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(key_node, yaml.ScalarNode):
            self._report(key_node, path, "a key must be text, not a list or a mapping")
        elif scalar_kind(key_node.tag) != "str":
            self._report(key_node, path, f"a key must be text: write it in quotes, '{key_node.value}'")
        elif key_node.value == "<<" and key_node.style is None:
            self._report(key_node, path, "merge keys (<<) are not taken; let the file say `extends: other.yaml`")
        else:
            return str(self._scalar(key_node, path))
        return None

    def _scalar(self, yaml_node: yaml.ScalarNode, path: KeyPath) -> object:
        kind, text = scalar_kind(yaml_node.tag), yaml_node.value
        if any("\ud800" <= char <= "\udfff" for char in text):
            self._report(yaml_node, path, "half a surrogate pair is no character")
            return text.encode("utf-8", "replace").decode()
        try:
            return scalar_value(kind, text)
        except ValueError:
            rule = f"must be text that the tag {kind} stands for" if text else f"the tag {kind} needs a value"
            self._report(yaml_node, path, rule, got=text)
            return text

    def _report(self, yaml_node: yaml.Node, path: KeyPath, rule: str, got: object = MISSING) -> None:
        self.problems.append(Problem(path, rule, got, place=self._place(yaml_node)))

    def _place(self, yaml_node: yaml.Node) -> str:
        return self._place_of_line(yaml_node.start_mark.line + 1)


def written(value: object, place: str, key_place: str | None = None) -> Node:
    """The Node of a plain value, as if it stood at `place`."""
    if isinstance(value, dict):
        return Node({str(key): written(item, place, place) for key, item in value.items()}, place, key_place)
    if isinstance(value, list | tuple):
        return Node([written(item, place) for item in value], place, key_place)
    return Node(value, place, key_place)


def nested(keys: Sequence[str], node: Node) -> Node:
    """The tree that holds nothing but `node`, at a key path; to be laid over another."""
    for key in reversed(keys):
        place = node.key_place or node.place
        node = Node({key: node}, place, place, implied=True)
    return node


def overlay(base: Node, child: Node, *, drop_other_kinds: bool = True) -> Node:
    """What `child` says, over what `base` says: mappings merge key by key, anything else replaces.

    drop_other_kinds: a nested mapping of another `kind` replaces as well, because the options belong to the kind
    """
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)):
        return child
    merged = dict(base.value)
    for key, node in child.value.items():
        below = merged.get(key)
        if below is None or (drop_other_kinds and MISSING not in (below.kind, node.kind) and below.kind != node.kind):
            merged[key] = node
        else:
            merged[key] = overlay(below, node, drop_other_kinds=drop_other_kinds)
    return replace(base if child.implied else child, value=merged)
