"""Tag schemes: whatever a file writes at its words becomes IOB2, and the entities of IOB2 tags.

    the tags of a file -> TagForm.of: order and scheme -> iob2, sentence by sentence -> spans

order      B-PER or B_PER (prefix), PER-B or PER_B (suffix), PER (bare), B (untyped)
scheme     iob1     B only where an entity follows at once on one of its own type
           iob2     B at the first word of each entity
           iobes    E at the last word, S where it is the only one; also BIOES, BILOU, BMES by their own letters
           io       no marks: neighbours of one type are one entity
outside    O, - or _
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

Scheme = Literal["auto", "iob1", "iob2", "iobes", "io"]
Order = Literal["prefix", "suffix", "bare", "untyped"]
Entity = tuple[str, int, int]

OUTSIDE = "O"
UNTYPED = "_"  # seqeval's name for the type of a tag without one
_OUTSIDES = frozenset(("O", "o", "-", "_"))
_JOINTS = frozenset("-_")
_NO_TYPE = frozenset('{}[]<>"')  # JSON or XML where tags are expected: any other text may be somebody's type
_MARKS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_MARK_LETTERS = frozenset((*_MARKS, *map(str.lower, _MARKS)))


class TagError(ValueError):
    """A tag that does not go with the others; `index` is its place in the sentence."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class TagForm(NamedTuple):
    """How a file writes its tags."""

    order: Order
    scheme: Scheme

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]], scheme: Scheme = "auto") -> "TagForm":
        """The form of all the tags of a file; `scheme` as given, or found."""
        tags = {tag for sentence in sentences for tag in sentence}.difference(_OUTSIDES)
        order = "bare" if scheme == "io" else _order(tags)
        if scheme != "auto":
            return cls(order, scheme)
        if order == "bare":
            return cls(order, "io")
        marks = {_MARKS[_split(tag, order)[0]] for tag in tags if _is_marked(tag, order)}
        if marks & {"E", "S"}:
            return cls(order, "iobes")
        return cls(order, "iob1" if _begins_only_between(sentences, order) else "iob2")

    def iob2(self, tags: Sequence[str]) -> tuple[tuple[str, ...], int]:
        """The tags in IOB2, and how many became B- that were written as the inside or the end of an entity.

        Raises TagError at a tag of another form.
        """
        found, num_begun = list[str](), 0
        before, open_type = OUTSIDE, ""
        for index, tag in enumerate(tags):
            mark, kind = self._read(tag, index)
            if mark == OUTSIDE:
                found.append(OUTSIDE)
            else:
                goes_on = mark in "IE" and before in "BI" and kind == open_type
                num_begun += mark in "IE" and not goes_on and self.scheme != "io"
                found.append(f"{'I' if goes_on else 'B'}-{kind}")
            before, open_type = mark, kind
        return tuple(found), num_begun

    def _read(self, tag: str, index: int) -> tuple[str, str]:
        if tag in _OUTSIDES:
            return OUTSIDE, ""
        if not tag or tag == "0":
            raise TagError(index, f"must be a tag, got {tag!r}; did you mean O?")
        if "," in tag and all(_is_marked(part, "prefix") for part in tag.split(",")):
            raise TagError(index, f"must be one tag, got several: {tag}")
        if self.order == "bare":
            if not _NO_TYPE.isdisjoint(tag):
                raise TagError(index, f"must be a tag, got {tag!r}")
            return "I", tag
        if not _is_marked(tag, self.order):
            raise TagError(index, f"must be O or {_LOOKS[self.order]} as the file's other tags are, got {tag!r}")
        mark, kind = _split(tag, self.order)
        return _MARKS[mark], kind


_LOOKS = {
    "prefix": "a mark and a type (B-PER)",
    "suffix": "a type and a mark (PER-B)",
    "untyped": "a mark alone (B)",
}


def spans(tags: Sequence[str]) -> list[Entity]:
    """The entities of IOB2 tags, each its type and [first, last + 1): what seqeval's default mode finds.

    An I- that goes on nothing of its own type begins an entity.
    """
    found: list[Entity] = []
    for index, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        mark, kind = tag[0], tag[2:]
        if mark == "I" and found and found[-1][0] == kind and found[-1][2] == index:
            found[-1] = (kind, found[-1][1], index + 1)
        else:
            found.append((kind, index, index + 1))
    return found


def tags_of(entities: Iterable[Entity], num_units: int) -> tuple[str, ...]:
    """The IOB2 tags of entities that do not overlap: the inverse of `spans`."""
    tags = [OUTSIDE] * num_units
    for kind, first, stop in entities:
        tags[first:stop] = [f"B-{kind}", *[f"I-{kind}"] * (stop - first - 1)]
    return tuple(tags)


def _order(tags: Iterable[str]) -> Order:
    """By B and I alone: the other letters are also the ends of types that carry no mark (VITAMIN-E)."""
    tags = set(tags)
    if tags and tags <= _MARK_LETTERS and tags & {"B", "b", "I", "i"}:
        return "untyped"
    num_marked = {order: sum(_is_marked(tag, order, "BI") for tag in tags) for order in ("prefix", "suffix")}
    if any(num_marked.values()):
        return "prefix" if num_marked["prefix"] >= num_marked["suffix"] else "suffix"
    if tags and all(_is_marked(tag, "prefix") for tag in tags):
        return "prefix"
    if tags and all(_is_marked(tag, "suffix") for tag in tags):
        return "suffix"
    return "bare"


def _is_marked(tag: str, order: str, marks: Iterable[str] = _MARKS) -> bool:
    mark, kind = _split(tag, order)
    return bool(kind) and mark in marks


def _split(tag: str, order: str) -> tuple[str, str]:
    """Mark and type of a tag, "" for a type that is not there or not set off."""
    if order == "untyped":
        return tag.upper(), UNTYPED
    if len(tag) < 3:
        return "", ""
    mark, joint, kind = (tag[0], tag[1], tag[2:]) if order == "prefix" else (tag[-1], tag[-2], tag[:-2])
    return mark.upper(), kind if joint in _JOINTS else ""


def _begins_only_between(sentences: Iterable[Sequence[str]], order: Order) -> bool:
    """Whether no B stands but right behind an entity of its own type, and some entity begins without one."""
    without_begin = False
    for mark, kind, before in _with_neighbours(sentences, order):
        if mark == "B" and kind != before:
            return False
        without_begin |= mark == "I" and kind != before
    return without_begin


def _with_neighbours(sentences: Iterable[Sequence[str]], order: Order) -> Iterator[tuple[str, str, str]]:
    for sentence in sentences:
        before = ""
        for tag in sentence:
            mark, kind = _split(tag, order) if _is_marked(tag, order) else ("", "")
            if mark:
                yield _MARKS[mark], kind, before
            before = kind
