"""The `space:` section: from its YAML tree to one entry for each key path and branch, and what is wrong with it.

    optimizer.lr: {low: 1.0e-5, high: 1.0e-3, log: true}      a range: of integers where low, high and step are
    train.batch_size: [16, 32]                                a choice; a value may be a list: [[3, 4], [5]]
    train: {seed: 1}                                          a constant, below a key that groups
    head:
      kind: [cnn, linear]
      when:                                                   options of one kind only
        cnn: {num_filters: [100, 200]}
    model.depth: {values: [3, 6], when: {6: {...}}}           the same for a choice that is no kind

What stands under `when` is beside the choice: below `head` here. Where there is no such option, but the job has a
section of that name (`optimizer.lr`), it is that section's.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reforge.search.dimension import Choice, Range, When, freeze
from reforge.search.ranges import RANGE_KEYS, read_range, unknown_keys
from reforge.spec.problem import Problem
from reforge.spec.tree import Node

_CHOICE_KEYS = ("values", "when")

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """The only value that a path has."""

    value: Any


@dataclass(frozen=True, eq=False)
class Entry:
    """What the space says of one key path in one branch.

    node: where it is said
    """

    keys: Keys
    domain: Range | Choice | Constant
    when: When
    node: Node

    @property
    def path(self) -> str:
        """The key path as text."""
        return ".".join(self.keys)

    def samples(self) -> list[tuple[Any, Node]]:
        """Values to try, each with the place it is written at: all of a choice, the ends of a range."""
        if isinstance(self.domain, Constant):
            return [(self.domain.value, self.node)]
        if isinstance(self.domain, Range):
            ends = [(self.domain.low, self.node.child("low")), (self.domain.high, self.node.child("high"))]
            return [(value, node) for value, node in ends if node is not None]
        items = self.node.child("values") if isinstance(self.node.value, dict) else self.node
        nodes = [node for _, node in items.children()] if items else []
        return list(zip(self.domain.values, nodes, strict=True))


class Reading:
    """The entries of a `space:` section in the order they stand in, and the problems.

    known: every key path that a job can have
    """

    def __init__(self, node: Node, known: Collection[str]) -> None:
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self._known = known
        if not isinstance(node.value, dict):
            self._report(("space",), "must be a mapping of key paths to what they may be", node, got=node.plain())
        elif not node.value:
            self._report(("space",), "says nothing to search", node, at_key=True)
        else:
            self._options(node.value, (), ())

    def _options(self, options: Mapping[str, Node], above: Keys, when: When) -> None:
        for key, node in options.items():
            keys = tuple(key.split("."))
            if not all(part == part.strip() != "" for part in keys):
                self._report((*above, key), "must be a key path, a.b", node, at_key=True)
                continue
            beside = not when or ".".join((*above, keys[0])) in self._known or keys[0] not in self._known
            self._option(node, (*above, *keys) if beside else keys, when)

    def _option(self, node: Node, keys: Keys, when: When) -> None:
        value = node.value
        if isinstance(value, list):
            self._add(keys, self._choice(keys, node, value), when, node)
        elif not isinstance(value, dict):
            self._add(keys, Constant(value), when, node)
        elif not value:
            self._report(keys, "says nothing", node, at_key=True)
        elif "low" in value or "high" in value or value.keys() <= set(RANGE_KEYS):
            self._add(keys, self._range(keys, node), when, node)
        elif "values" in value:
            self._discrete(node, value, keys, when)
        elif "when" in value:
            self._part(node, value, keys, when)
        else:
            self._options(value, keys, when)

    def _discrete(self, node: Node, value: Mapping[str, Node], keys: Keys, when: When) -> None:
        self.problems += unknown_keys(node, keys, _CHOICE_KEYS, "a choice with branches")
        items = value["values"]
        if not isinstance(items.value, list):
            self._report(keys, "values must be a list", items, got=items.plain())
            return
        entry = self._add(keys, self._choice(keys, items, items.value), when, node)
        if "when" in value:
            self._branches(value["when"], entry, keys, when)

    def _part(self, node: Node, value: Mapping[str, Node], keys: Keys, when: When) -> None:
        entry = None
        kind = value.get("kind")
        if kind is None:
            rule = "when stands beside the choice that it hangs on: give kind a list of kinds, or write {values, when}"
            self._report(keys, rule, value["when"], at_key=True)
        elif isinstance(kind.value, list):
            entry = self._add((*keys, "kind"), self._choice((*keys, "kind"), kind, kind.value), when, kind)
        else:
            self._option(kind, (*keys, "kind"), when)
            rule = "when needs a choice to hang on, and kind is not one: give it a list of kinds"
            self._report((*keys, "kind"), rule, value["when"], kind.plain(), at_key=True)
        self._options({key: child for key, child in value.items() if key not in ("kind", "when")}, keys, when)
        self._branches(value["when"], entry, (*keys, "kind"), when)

    def _branches(self, node: Node, entry: Entry | None, keys: Keys, when: When) -> None:
        """Read the branches that hang on `entry`; where that cannot be read, only what is wrong inside them."""
        if not isinstance(node.value, dict):
            self._report(keys, "when must be a mapping from each value to its options", node, got=node.plain())
            return
        choice = entry.domain if entry and isinstance(entry.domain, Choice) else None
        for label, branch in node.value.items():
            if choice is None:
                continue
            if label not in choice.labels:
                near = next(iter(difflib.get_close_matches(label, choice.labels, n=1)), None)
                rule = f"when is for a value that is not among the choices ({', '.join(choice.labels)})"
                self._report(keys, rule, branch, label, at_key=True, nearest=near)
                continue
            if isinstance(branch.value, dict):
                condition = (".".join(keys), frozenset({freeze(choice.value(label))}))
                self._options(branch.value, keys[:-1], (*when, condition))
            elif branch.value is not None:
                self._report(keys, f"what hangs on {label} must be a mapping of options", branch, branch.plain())

    def _add(self, keys: Keys, domain: Range | Choice | Constant | None, when: When, node: Node) -> Entry | None:
        chain = [path for path, _ in when]
        path = ".".join(keys)
        if any(other == path or other.startswith(f"{path}.") for other in chain):
            links = " -> ".join([path, *reversed(chain[chain.index(path) if path in chain else 0 :])])
            self._report(keys, f"hangs on itself: {links}", node, at_key=True)
        elif domain is not None:
            self.entries.append(Entry(keys, domain, when, node))
            return self.entries[-1]
        return None

    def _choice(self, keys: Keys, node: Node, items: list[Node]) -> Choice | None:
        if not items:
            self._report(keys, "an empty choice: must hold at least one value", node)
            return None
        seen: list[Any] = []
        good = True
        for index, item in enumerate(items):
            value = freeze(item.plain())
            if value in seen:
                good = self._report((*keys, index), "must stand there only once", item, item.plain())
            seen.append(value)
        return Choice(tuple(item.plain() for item in items)) if good else None

    def _range(self, keys: Keys, node: Node) -> Range | None:
        domain, problems = read_range(node, keys)
        self.problems += problems
        return domain

    def _report(
        self, path: tuple[str | int, ...], rule: str, node: Node, got: Any = None, *, at_key: bool = False,
        nearest: str | None = None,
    ) -> bool:  # fmt: skip
        """Note a problem; False, so that `good = self._report(...)` reads well."""
        place = (at_key and node.key_place) or node.place
        known = {} if got is None else {"got": got}
        self.problems.append(Problem(path, rule, nearest=nearest, place=place, **known))
        return False
