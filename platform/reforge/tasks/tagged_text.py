"""Tagged texts for people and for files: entities as a list, and in their place in the text."""

from collections.abc import Sequence
from typing import Any

from reforge.corpora.labelled import TaggedExample
from reforge.corpora.labelled.iob import spans


def entities(example: TaggedExample, tags: Sequence[str]) -> list[dict[str, Any]]:
    """Type, [start, end) in characters, and text of each entity."""
    found = []
    for kind, first, stop in spans(tags):
        start, end = example.units[first][0], example.units[stop - 1][1]
        found.append({"type": kind, "start": start, "end": end, "text": example.text[start:end]})
    return found


def in_place(example: TaggedExample, tags: Sequence[str]) -> str:
    """The text with each entity as [TYPE entity]."""
    shown, behind = [], 0
    for entity in entities(example, tags):
        shown += [example.text[behind : entity["start"]], f"[{entity['type']} {entity['text']}]"]
        behind = entity["end"]
    return "".join([*shown, example.text[behind:]])


def words(example: TaggedExample) -> list[str]:
    """The units' own text."""
    return [example.text[start:end] for start, end in example.units]


def num_wrong(gold: Sequence[str], guess: Sequence[str]) -> int:
    """How many entities are in one and not in the other."""
    return len(set(spans(gold)) ^ set(spans(guess)))
