"""Which branches of a space can be active at once, and what that means for a key path that stands in several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from reforge.search.dimension import When, freeze
from reforge.search.reading import Entry
from reforge.spec.problem import Problem


def holds(when: When, settings: Mapping[str, Any]) -> bool:
    """Whether every condition is met by the values that the key paths have."""
    return all(path in settings and freeze(settings[path]) in values for path, values in when)


def exclusive(one: When, other: When) -> bool:
    """Whether two sets of conditions can never hold at once."""
    wanted = dict(one)
    return any(path in wanted and wanted[path].isdisjoint(values) for path, values in other)


def clashes(entries: Sequence[Entry]) -> list[Problem]:
    """A problem for each entry that sets what an earlier one sets as well, in the same branch."""
    problems: dict[str, Problem] = {}
    for first, second in combinations(entries, 2):
        nested = first.keys != second.keys
        shorter = min(len(first.keys), len(second.keys))
        if first.keys[:shorter] != second.keys[:shorter] or exclusive(first.when, second.when):
            continue
        place = second.node.key_place or second.node.place
        where = first.node.key_place or first.node.place
        rule = f"is set as a part of {first.path} as well" if nested else "stands twice"
        problem = Problem(second.keys, f"{rule}; the first time at {where}", place=place)
        problems.setdefault(str(problem), problem)
    return list(problems.values())


def merged(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with those of one path and one domain in several branches as a single one, active in each of them."""
    found: list[Entry] = []
    for entry in entries:
        at = next((index for index, other in enumerate(found) if _joined(other, entry) is not None), None)
        if at is None:
            found.append(entry)
        else:
            when = _joined(found[at], entry)
            assert when is not None
            found[at] = replace(found[at], when=when)
    return found if len(found) == len(entries) else merged(found)


def names(entries: Sequence[Entry]) -> list[str]:
    """A name for each entry: its key path, and the branch after it where branches differ in what the path may be."""
    paths = [entry.path for entry in entries]
    return [entry.path if paths.count(entry.path) == 1 else f"{entry.path}[{_branch(entry.when)}]" for entry in entries]


def _joined(one: Entry, other: Entry) -> When | None:
    """The conditions of both, where they differ in the values of one path alone."""
    if one.keys != other.keys or one.domain != other.domain or len(one.when) != len(other.when):
        return None
    pairs = list(zip(one.when, other.when, strict=True))
    differ = [index for index, (first, second) in enumerate(pairs) if first != second]
    if len(differ) != 1 or pairs[differ[0]][0][0] != pairs[differ[0]][1][0]:
        return None
    index = differ[0]
    path, values = one.when[index]
    return (*one.when[:index], (path, values | other.when[index][1]), *one.when[index + 1 :])


def _branch(when: When) -> str:
    return ",".join("/".join(sorted(map(str, values))) for _, values in when)
