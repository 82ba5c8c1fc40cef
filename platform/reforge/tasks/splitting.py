"""Dividing a labelled set so that the parts are alike and no text is on both sides.

    examples --equal texts--> groups --by label, in a shuffled order--> the part that is furthest behind its share

Examples that share a text (either text of a pair), or an article, are one group. The outcome is a function of the seed
and the examples' content alone; where texts repeat, also of which example of a group is the first.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from reforge.corpora.labelled import Example, QuestionExample, TaggedExample, TextExample


def assign(examples: Sequence[Example], shares: Sequence[float], seed: int) -> list[int]:
    """For each example the number of its part; part k gets `shares[k]` of the examples of each label.

    A group goes where its first example's label puts it, so that labels are met exactly where texts differ, and nearly
    where they repeat.
    """
    groups = _groups(examples)
    order = sorted(groups, key=lambda members: _draw(texts_of(examples[members[0]]), seed))
    given: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(shares))
    parts = [0] * len(examples)
    for members in order:
        counts = given[_stratum(examples[members[0]])]
        seen = sum(counts) + len(members)
        part = max(range(len(shares)), key=lambda k: shares[k] * seen - counts[k])
        counts[part] += len(members)
        for index in members:
            parts[index] = part
    return parts


def sample(examples: Sequence[Example], count: int | None, seed: int) -> list[Example]:
    """`count` of the examples in their order, drawn by their content; all where there are no more."""
    if count is None or count >= len(examples):
        return list(examples)
    drawn = sorted(range(len(examples)), key=lambda index: _draw(read_texts(examples[index]), seed))[:count]
    return [examples[index] for index in sorted(drawn)]


def texts_of(example: Example) -> tuple[str, ...]:
    """What no other part may hold."""
    match example:
        case TextExample(text=text, pair=pair):
            return (text,) if pair is None else (text, pair)
        case TaggedExample(text=text):
            return (text,)
        case QuestionExample(group=group):
            return (group,)


def read_texts(example: Example) -> tuple[str, ...]:
    """What a model reads of it."""
    if isinstance(example, QuestionExample):
        return (example.question, example.context)
    return texts_of(example)


def _groups(examples: Sequence[Example]) -> list[list[int]]:
    """Indices of examples that hang together by a common text."""
    parents = list(range(len(examples)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[str, int] = {}
    for index, example in enumerate(examples):
        for text in texts_of(example):
            parents[root(index)] = root(first.setdefault(text, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(examples)):
        groups[root(index)].append(index)
    return list(groups.values())


def _stratum(example: Example) -> str:
    match example:
        case TextExample(label=float() as score):
            return str(round(score))
        case TextExample(label=label):
            return str(label)
        case TaggedExample(tags=tags):
            return min((tag[2:] for tag in tags or () if tag != "O"), default="O")
        case QuestionExample():
            return ""


def _draw(texts: Sequence[str], seed: int) -> bytes:
    content = "\0".join(texts)
    return hashlib.blake2b(f"{seed}\0{content}".encode(errors="surrogatepass"), digest_size=16).digest()
