"""The real tagged sets and questions: every example is read, none is repaired, and the counts are those published."""

from collections import Counter
from pathlib import Path

import pytest

from reforge.corpora.labelled import LABELLED, QuestionExample, TaggedExample
from reforge.corpora.labelled.iob import spans
from reforge.corpora.tally import Tally
from reforge.spec import UserError

WNUT_TYPES = ("person", "location", "corporation", "product", "creative-work", "group")
KLUE_TYPES = ("PS", "QT", "DT", "OG", "LC", "TI")
# Sentences; entities of each type in the order of the types above.
TAGGED = [
    ("conll", "wnut17/wnut17train.conll", 3_394, WNUT_TYPES, (660, 548, 221, 142, 140, 264)),
    ("conll", "wnut17/emerging.dev.conll", 1_009, WNUT_TYPES, (470, 74, 34, 114, 105, 39)),
    ("conll", "wnut17/emerging.test.annotated", 1_287, WNUT_TYPES, (429, 150, 66, 127, 142, 165)),
    ("klue_ner", "klue/klue-ner-v1.1_dev.tsv", 5_000, KLUE_TYPES, (4_418, 3_151, 2_312, 2_182, 1_649, 545)),
]


@pytest.mark.slow  # whole sets
@pytest.mark.parametrize(("kind", "file", "count", "types", "entities"), TAGGED, ids=[real[1] for real in TAGGED])
def test_tagged_sets(
    shared: Path, kind: str, file: str, count: int, types: tuple[str, ...], entities: tuple[int, ...]
) -> None:
    tally, found, keys = Tally(), Counter[str](), set[str]()
    for example in LABELLED[kind](path=shared / file).read(tally=tally):  # type: ignore[call-arg]
        assert isinstance(example, TaggedExample)
        assert example.tags is not None
        assert len(example.units) == len(example.tags)
        assert example.units[-1][1] == len(example.text)
        found.update(label for label, _, _ in spans(example.tags))
        keys.add(example.key)
    assert found == dict(zip(types, entities, strict=True))
    assert len(keys) == tally.documents == count
    assert not tally.dropped
    assert not tally.fixed


def test_wnut17s_other_test_file_has_every_annotators_tags(shared: Path) -> None:
    several = LABELLED["conll"](path=shared / "wnut17" / "emerging.test.conll", on_bad_record="skip")  # type: ignore[call-arg]
    tally = Tally()
    assert sum(1 for _ in several.read(tally=tally)) == 1_287 - 182
    assert tally.dropped == {"tag of another form": 182}
    with pytest.raises(
        UserError, match=r"\.conll:212: must be one tag, got several: B-corporation,B-person,B-location"
    ):
        list(several.model_copy(update={"on_bad_record": "fail"}).read())


def test_korquad(shared: Path) -> None:
    tally, keys, groups = Tally(), set[str](), set[str]()
    for example in LABELLED["squad"](path=shared / "korquad-v1").read(tally=tally):  # type: ignore[call-arg]
        assert isinstance(example, QuestionExample)
        assert example.answers is not None
        assert len(example.answers) == 1
        keys.add(example.key)
        groups.add(example.group)
    assert (len(keys), len(groups)) == (5_774, 140)
    assert not tally.dropped
    assert not tally.fixed
