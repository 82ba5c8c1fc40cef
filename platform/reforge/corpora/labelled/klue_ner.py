"""KLUE's named entities, tagged character by character; a space is a character like any other.

    ## 문장 구분자 : ...              comments at the file's head
    ## guid TAB sentence with <entity:TYPE> marks
    character TAB tag

A blank line stands between sentences.
"""

import unicodedata
from collections.abc import Iterator
from typing import Literal

from reforge.corpora.labelled.tagged import Line, Sentence, TaggedFiles, bad_line, blocks, joined
from reforge.corpora.reader import Reader

_HEAD = "##"
_JOINER = "\u200d"


class KlueNer(TaggedFiles):
    """Sentences by the character. A unit is a character, with the marks that combine with it; spaces are units too."""

    kind: Literal["klue_ner"] = "klue_ner"
    endings = (".tsv", ".txt")

    def sentences(self, reader: Reader, labelled: bool) -> Iterator[Sentence]:
        any_before = False
        # Not is_blank: a line of one space is the space of an unlabelled sentence, or has lost its tag.
        for block in blocks(reader, self.encoding, ends=lambda line: not line):
            for head, lines in _parts(block):
                if lines:
                    yield from _sentence(head, lines, reader, labelled)
                elif head is not None and "\t" in head.text and any_before:
                    bad_line(reader, head.number, "sentence without characters", "must have characters below it")
                any_before |= bool(lines)


def _parts(block: list[Line]) -> Iterator[tuple[Line | None, list[Line]]]:
    """Each head of a block with the characters below it."""
    head, lines = None, list[Line]()
    for line in block:
        if not line.text.startswith(_HEAD):
            lines.append(line)
            continue
        if head or lines:
            yield head, lines
        head, lines = line, []
    yield head, lines


def _sentence(head: Line | None, lines: list[Line], reader: Reader, labelled: bool) -> Iterator[Sentence]:
    characters, tags = list[str](), list[str]()
    for number, line in lines:
        character, tab, tag = line.rpartition("\t")
        if not tab and not labelled:
            character = line
        if fault := _fault(character, bool(tab) or not labelled, line):
            bad_line(reader, number, *fault)
            return
        characters.append(character)
        tags.append(tag)
    guid = head.text.removeprefix(_HEAD).partition("\t")[0].strip() if head else ""
    text, units = joined(characters, "")
    numbers = [line.number for line in lines]
    yield Sentence(guid or f"{reader.name}:{numbers[0]}", text, units, tuple(tags) if labelled else None, numbers)


def _fault(character: str, is_pair: bool, line: str) -> tuple[str, str] | None:
    """Reason and message about a line that holds no character."""
    if not is_pair or not character:
        return "line of another layout", f"must be a character, a tab and a tag, got {line!r}"
    if len(character) > 1 and _num_bases(character) > 1:
        return "line of another layout", f"must be one character, got {character!r}; words with tags are of kind conll"
    return None


def _num_bases(cluster: str) -> int:
    """How many characters do not combine with the one before them; more than one in what is no single character."""
    if _JOINER in cluster:
        return 1
    composed = unicodedata.normalize("NFC", cluster)
    return sum(unicodedata.category(character)[0] != "M" for character in composed)
