"""The classes of labelled texts: their names, their order, how much each weighs."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from reforge.corpora.labelled import Example
from reforge.corpora.records import nearest
from reforge.spec import UserError
from reforge.tasks.text_rows import text_example

NUM_SHOWN = 10


def class_name(example: Example) -> str:
    """The class of an example; raises UserError where it has none."""
    label = text_example(example).label
    if label is None:
        raise UserError(f"{example.key}: has no label")
    if not isinstance(label, str):
        raise UserError(
            f"{example.key}: its label {label:g} is a score, and this task takes classes: read the set without "
            "`score: true`, or take task.kind: similarity"
        )
    return label


def class_names(examples: Sequence[Example]) -> tuple[str, ...]:
    """The classes of a training set, in order; numbers by their value. Raises UserError where there is only one."""
    names = {class_name(example) for example in examples}
    if len(names) < 2:
        raise UserError(
            f"all {len(examples):,} training examples ({examples[0].key} to {examples[-1].key}) are of one class, "
            f'"{names.pop()}": there is nothing to tell apart'
        )
    if all(_number(name) is not None for name in names):
        return tuple(sorted(names, key=lambda name: (_number(name), name)))
    return tuple(sorted(names))


def class_indices(examples: Iterable[Example], names: tuple[str, ...]) -> list[int]:
    """Which of the classes each example is of; raises UserError, with the example's key, at another class."""
    index_of = {name: index for index, name in enumerate(names)}
    found = []
    for example in examples:
        name = class_name(example)
        if name not in index_of:
            raise UserError(f'{example.key}: the label "{name}" is none that training saw: {known(name, names)}')
        found.append(index_of[name])
    return found


def known(name: str, names: tuple[str, ...]) -> str:
    """How a message lists the classes, and which of them `name` probably means."""
    more = f" and {len(names) - NUM_SHOWN:,} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(names[:NUM_SHOWN]) + more + nearest(name, names)


def weights_of(
    chosen: Literal["none", "balanced"] | Mapping[str, float], names: Sequence[str]
) -> tuple[float, ...] | None:
    """The weight of each name, 1 where none is chosen for it; None where all weigh 1."""
    assert chosen != "balanced", "settle() turns balanced into numbers, from the training set"
    if isinstance(chosen, str):
        return None
    return tuple(chosen.get(name, 1.0) for name in names)


def balanced_weights(examples: Sequence[Example]) -> dict[str, float]:
    """n / (K n_k) for each class: all weigh the same together (King and Zeng 2001, as scikit-learn's "balanced")."""
    counts = Counter(class_name(example) for example in examples)
    return {name: len(examples) / (len(counts) * count) for name, count in sorted(counts.items())}


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
