"""Where a job's options come from: a spec file, the files it extends, and overrides, laid one over the other.

    base.yaml <- extends - child.yaml <- command line: key.path=value

Every value keeps the place it was said at, so that a problem found much later can still point to it.
"""

import difflib
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reforge.spec.problem import MISSING, KeyPath, Problem, SpecError
from reforge.spec.tree import Node, NotReadable, nested, overlay, read_tree

_MAX_SPEC_BYTES = 1 << 20  # stops a weights file given by mistake from being read whole


@dataclass(frozen=True)
class Source:
    """The merged tree of a spec, and what was wrong in the files and overrides it was made of.

    name: the spec file that was asked for, as messages show it
    base_kind: the `kind` of the nearest extended file that has another one than the file itself
    """

    name: str
    root: Node
    problems: tuple[Problem, ...] = ()
    base_kind: Node | None = None

    @property
    def data(self) -> dict[str, object]:
        """The merged options in plain dicts, lists and scalars, not yet validated."""
        data = self.root.plain()
        assert isinstance(data, dict)
        return data

    def overlaid(self, trees: Iterable[Node]) -> "Source":
        """The same with values laid over it that were set together: among them a `kind` drops nothing."""
        spoken = Node({}, self.root.place, implied=True)
        for tree in trees:
            spoken = overlay(spoken, tree, drop_other_kinds=False)
        return replace(self, root=overlay(self.root, spoken))

    def place(self, path: KeyPath) -> str:
        """Where the value at `path` stands; for one that nobody gave, where the mapping around it starts."""
        node, place = self.root, self.root.place
        for key in path:
            child = node.child(key)
            if child is None:
                break
            node = child
            # A block mapping's own first line is that of its first key: the line that names it says more.
            place = (node.key_place or node.place) if isinstance(node.value, dict | list) else node.place
        return place

    def key_place(self, path: KeyPath) -> str:
        """Where the key at the end of `path` stands."""
        node = self.root.find(path)
        return (node and node.key_place) or self.place(path)


def load_source(path: Path, overrides: Sequence[str] = (), dotted: Sequence[str] = ()) -> Source:
    """Read a spec file with all it extends, and lay `key.path=value` overrides over it.

    dotted: the sections whose keys may be key paths: `optimizer.lr: 1` is read as `optimizer: {lr: 1}`
    Raises SpecError where there is nothing to validate: a file that is missing, unreadable or not YAML, a cycle of
    `extends`. Lesser problems wait in the Source, to be reported by `validate` with all the others.
    """
    over, problems = _read_overrides(overrides)
    try:
        layers, found = _read_chain(path, dotted)
    except _Unreadable as error:
        raise SpecError([*problems, *error.problems], shown_file(path)) from None
    root = functools.reduce(overlay, reversed(layers))
    blocked = {id(node): _through_list(root, node) for node in over}
    problems += [*found, *filter(None, blocked.values())]
    source = Source(shown_file(path), root, tuple(problems), _base_kind(layers))
    # `model.depth=2 model.kind=b` means both.
    return source.overlaid(node for node in over if blocked[id(node)] is None)


def shown_file(path: Path) -> str:
    """The file as messages name it: relative to the working directory when below it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would show where links lead, not what was typed)
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


class _Unreadable(Exception):
    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(str(problems))
        self.problems = problems


def _read_chain(path: Path, dotted: Sequence[str]) -> tuple[list[Node], list[Problem]]:
    """The tree of a file, then those of the files it extends."""
    layers: list[Node] = []
    problems: list[Problem] = []
    chain: list[Path] = []
    file: Path | None = path
    told = Problem((), "", place=shown_file(path))  # who named the file: what is said of it is said there
    try:
        while file is not None:
            _refuse_cycle(chain, file, told)
            chain.append(file)
            layer, found = _read_file(file, told)
            problems += found
            layers.append(_opened(layer, dotted))
            file, told = _base_of(layer, file)
    except NotReadable as error:
        raise _Unreadable([*problems, error.problem]) from None
    return layers, problems


def _opened(layer: Node, dotted: Sequence[str]) -> Node:
    """The tree of a file with the key paths of some sections as mappings, so that files and overrides merge."""
    assert isinstance(layer.value, dict)
    for name in dotted:
        section = layer.value.get(name)
        if section is not None and isinstance(section.value, dict):
            layer.value[name] = _open_section(section, section.value)
    return layer


def _open_section(section: Node, entries: Mapping[str, Node]) -> Node:
    paths = [key.split(".") for key in entries]
    within = any(one != other and other[: len(one)] == one for one in paths for other in paths)
    if within or not all(key.strip() == key != "" for path in paths for key in path):
        return section  # for whoever reads the section to find and to tell
    trees = [nested(path, node) for path, node in zip(paths, entries.values(), strict=True)]
    opened = functools.reduce(overlay, trees, Node({}, section.place, implied=True))
    return replace(section, value=opened.value)


def _base_kind(layers: Sequence[Node]) -> Node | None:
    kinds = [kind for layer in layers if (kind := layer.child("kind"))]
    return next((kind for kind in kinds if kind.value != kinds[0].value), None)


def _refuse_cycle(chain: Sequence[Path], file: Path, told: Problem) -> None:
    if file.resolve() in [earlier.resolve() for earlier in chain]:
        names = " -> ".join(shown_file(link) for link in [*chain, file])
        raise NotReadable(Problem(told.path, f"must not lead back to itself: {names}", place=told.place))


def _base_of(layer: Node, file: Path) -> tuple[Path | None, Problem]:
    """The file that `layer`, read from `file`, extends, taken out of the layer."""
    assert isinstance(layer.value, dict)
    said: Node | None = layer.value.pop("extends", None)
    if said is None:
        return None, Problem((), "")
    told = Problem(("extends",), "must be the path of a YAML file", said.plain(), place=said.place)
    if not isinstance(said.value, str) or not said.value:
        raise NotReadable(told)
    return file.parent / said.value, told


def _read_file(file: Path, told: Problem) -> tuple[Node, list[Problem]]:
    """The tree of one file; raises NotReadable where it holds no mapping."""
    name = shown_file(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_SPEC_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise NotReadable(_explain_unreadable(file, told, error)) from None
    if len(content) > _MAX_SPEC_BYTES:
        raise NotReadable(Problem((), f"larger than {_MAX_SPEC_BYTES} bytes: this is no job spec", place=name))
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        rule = f"not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}"
        line = content[: error.start].count(b"\n") + 1
        raise NotReadable(Problem((), rule, place=f"{name}:{line}")) from None
    root, problems = read_tree(text, lambda line: f"{name}:{line}")
    if not isinstance(root.value, dict):
        rule, got = "must be a mapping of options", root.plain()
        if got is None:
            rule, got = "the file is empty: must be a mapping of options", MISSING
        raise NotReadable(Problem((), rule, got, place=root.place))
    return root, problems


def _explain_unreadable(file: Path, told: Problem, error: OSError | ValueError) -> Problem:
    given = Path(str(told.got)) if told.path else file
    match error:
        case FileNotFoundError() if not file.parent.is_dir():
            return Problem(told.path, f"no such folder: {shown_file(file.parent)}", told.got, place=told.place)
        case FileNotFoundError():
            specs = sorted(entry for entry in file.parent.iterdir() if entry.suffix in (".yaml", ".yml"))
            others = [spec.name for spec in specs if not str(told.place).startswith(f"{shown_file(spec)}:")]
            near = difflib.get_close_matches(file.name, others, n=1)
            nearest = str(given.with_name(near[0])) if near else None
            return Problem(told.path, "no such file", told.got, nearest, told.place)
        case IsADirectoryError():
            return Problem(told.path, "must be a file, not a folder", told.got, place=told.place)
        case _:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return Problem(told.path, f"the file cannot be read: {reason}", told.got, place=told.place)


def _read_overrides(overrides: Sequence[str]) -> tuple[list[Node], list[Problem]]:
    """The tree of each well-formed override, and the problems of the others."""
    trees: list[Node] = []
    problems: list[Problem] = []
    for text in overrides:
        place = f"command line: {text}"
        dotted, equals, value = text.partition("=")
        keys = dotted.split(".")
        if not equals or not all(key.strip() == key != "" for key in keys):
            problems.append(Problem((), "must have the form key.path=value", place=place))
        elif keys[0] == "extends":
            problems.append(Problem(("extends",), "must stand in a spec file, not on the command line", place=place))
        else:
            node, found = _read_override(tuple(keys), value, place)
            problems += found
            if node:
                trees.append(node)
    return trees, problems


def _read_override(keys: tuple[str, ...], value: str, place: str) -> tuple[Node | None, list[Problem]]:
    def within(problem: Problem) -> Problem:
        return Problem((*keys, *problem.path), problem.rule, problem.got, problem.nearest, place)

    try:
        node, found = read_tree(value, lambda _: place)
    except NotReadable as error:
        return None, [within(error.problem)]
    return nested(keys, replace(node, key_place=place)), [within(problem) for problem in found]


def _through_list(root: Node, override: Node) -> Problem | None:
    """What is wrong with an override of one item of a list, which a key path cannot name."""
    path: KeyPath = ()
    below: Node | None = root
    while below is not None and override.implied:
        if isinstance(below.value, list):
            return Problem(path, "a list is overridden as a whole: key=[a, b]", below.plain(), place=override.place)
        ((key, override),) = override.children()
        path, below = (*path, key), below.child(key)
    return None
