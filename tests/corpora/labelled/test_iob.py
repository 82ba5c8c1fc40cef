"""Tag schemes: every spelling of the same entities gives the same IOB2 tags, and seqeval finds the same entities."""

import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from reforge.corpora.labelled.iob import TagError, TagForm, spans, tags_of

ENTITIES = [("PER", 0, 2), ("PER", 2, 3), ("LOC", 3, 4), ("PER", 5, 8)]
IOB2_TAGS = ("B-PER", "I-PER", "B-PER", "B-LOC", "O", "B-PER", "I-PER", "I-PER", "O")
SPELLINGS = {
    "iob2": "B-PER I-PER B-PER B-LOC O B-PER I-PER I-PER O",
    "iob1": "I-PER I-PER B-PER I-LOC O I-PER I-PER I-PER O",
    "iobes": "B-PER E-PER S-PER S-LOC O B-PER I-PER E-PER O",
    "bilou": "B-PER L-PER U-PER U-LOC O B-PER I-PER L-PER O",
    "bmes": "B-PER E-PER S-PER S-LOC O B-PER M-PER E-PER O",
    "underscore": "B_PER I_PER B_PER B_LOC - B_PER I_PER I_PER -",
    "suffix": "PER-B PER-I PER-B LOC-B O PER-B PER-I PER-I O",
    "naver": "PER_B PER_I PER_B LOC_B - PER_B PER_I PER_I -",
    "suffix iobes": "PER-B PER-E PER-S LOC-S _ PER-B PER-I PER-E _",
    "lower case": "b-PER i-PER b-PER b-LOC o b-PER i-PER i-PER o",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_the_same_entities_gives_the_same_tags(spelling: str) -> None:
    sentence = SPELLINGS[spelling].split()
    tags, num_begun = TagForm.of([sentence]).iob2(sentence)
    assert tags == IOB2_TAGS
    assert num_begun == (3 if spelling == "iob1" else 0)


@pytest.mark.parametrize(
    ("sentence", "form"),
    [
        ("B-PER I-PER O", TagForm("prefix", "iob2")),
        ("I-PER I-PER O", TagForm("prefix", "iob1")),
        ("S-PER O", TagForm("prefix", "iobes")),
        ("PER_B -", TagForm("suffix", "iob2")),
        ("PER PER O LOC", TagForm("bare", "io")),
        ("B I O", TagForm("untyped", "iob2")),
        ("VITAMIN-E DRUG O", TagForm("bare", "io")),
        ("O O", TagForm("bare", "io")),
    ],
)
def test_the_form_is_found(sentence: str, form: TagForm) -> None:
    assert TagForm.of([sentence.split()]) == form


@pytest.mark.parametrize(
    ("sentence", "tags", "num_begun"),
    [
        ("O I-PER I-PER", "O B-PER I-PER", 1),
        ("B-PER I-LOC I-LOC", "B-PER B-LOC I-LOC", 1),
        ("B-PER O I-PER", "B-PER O B-PER", 1),
        ("B-PER E-PER E-PER", "B-PER I-PER B-PER", 1),
        ("S-PER I-PER E-PER O", "B-PER B-PER I-PER O", 1),
        ("B-PER I-PER O", "B-PER I-PER O", 0),
        ("PER PER O PER LOC", "B-PER I-PER O B-PER B-LOC", 0),
        ("B I O I B", "B-_ I-_ O B-_ B-_", 1),
        ("B-creative-work I-creative-work", "B-creative-work I-creative-work", 0),
        ("date_time_B date_time_I O", "B-date_time I-date_time O", 0),
    ],
)
def test_an_inside_without_its_begin_begins_an_entity_and_is_counted(sentence: str, tags: str, num_begun: int) -> None:
    written = sentence.split()
    assert TagForm.of([["B-X", "O"] if "B-" in sentence else [], written]).iob2(written) == (
        tuple(tags.split()),
        num_begun,
    )


@pytest.mark.parametrize(
    ("sentence", "index", "message"),
    [
        ("B-PER PER", 1, r"must be O or a mark and a type \(B-PER\) as the file's other tags are, got 'PER'"),
        ("PER-B LOC", 1, r"must be O or a type and a mark \(PER-B\)"),
        ("B-PER B-PER,B-LOC", 1, "must be one tag, got several: B-PER,B-LOC"),
        ("0 B-PER", 0, "got '0'; did you mean O"),
        ("PER O 0", 2, "got '0'; did you mean O"),
        ("B-", 0, "got 'B-'"),
        ("PER O [1]", 2, r"must be a tag, got '\[1\]'"),
    ],
)
def test_a_tag_of_another_form_is_an_error_at_its_place(sentence: str, index: int, message: str) -> None:
    tags = sentence.split()
    form = TagForm.of([tags, ["B-PER"]] if tags == ["B-"] else [tags])
    with pytest.raises(TagError, match=message) as caught:
        form.iob2(tags)
    assert caught.value.index == index


def test_a_given_scheme_is_kept() -> None:
    tags = ("E-MAIL", "O", "I-MAIL")
    assert TagForm.of([tags], "io").iob2(tags) == (("B-E-MAIL", "O", "B-I-MAIL"), 0)


def random_tags(seed: int, marks: str) -> list[str]:
    draw = random.Random(seed)
    tags = ["O", *(f"{mark}-{kind}" for mark in marks for kind in ("PER", "LOC"))]
    return draw.choices(tags, k=draw.randrange(1, 30))


def test_entities_are_those_that_seqeval_finds() -> None:
    for seed in range(2000):
        tags = random_tags(seed, "BI")
        assert [(kind, first, stop - 1) for kind, first, stop in spans(tags)] == get_entities(tags)


@pytest.mark.parametrize("marks", ["BI", "BIES"])
def test_repaired_tags_hold_the_entities_that_seqeval_finds_in_the_tags_as_they_are(marks: str) -> None:
    form = TagForm("prefix", "iobes" if marks == "BIES" else "iob2")
    for seed in range(2000):
        written = random_tags(seed, marks)
        tags, _ = form.iob2(written)
        assert [(kind, first, stop - 1) for kind, first, stop in spans(tags)] == get_entities(written)


@pytest.mark.parametrize("scheme", [IOB1, IOB2, IOBES])
def test_valid_tags_hold_the_entities_of_seqevals_strict_mode(scheme: type) -> None:
    spelling = SPELLINGS[scheme.__name__.lower()].split()
    strict = [(entity.tag, entity.start, entity.end) for entity in Entities([spelling], scheme).entities[0]]
    assert spans(TagForm.of([spelling]).iob2(spelling)[0]) == strict == ENTITIES


def test_tags_of_entities_are_the_inverse() -> None:
    assert tags_of(ENTITIES, 9) == IOB2_TAGS
    for seed in range(200):
        tags, _ = TagForm("prefix", "iob2").iob2(random_tags(seed, "BI"))
        assert tags_of(spans(tags), len(tags)) == tags
