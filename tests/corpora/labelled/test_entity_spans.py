"""From stretches of a text to units and tags: nothing of an entity is lost, whatever it cuts."""

import random

import pytest

from reforge.corpora.labelled.entity_spans import (
    EntitySpan,
    characters,
    longest_apart,
    overlapping,
    tags_at,
    trimmed,
    words,
)
from reforge.corpora.labelled.iob import spans

TEXT = "에이다는 '서울'에서 3.5km를 걷는다."


@pytest.mark.parametrize(
    ("cuts", "units"),
    [
        ((), ["에이다는", "'", "서울", "'", "에서", "3", ".", "5km를", "걷는다", "."]),
        ((3, 15, 17), ["에이다", "는", "'", "서울", "'", "에서", "3", ".", "5", "km", "를", "걷는다", "."]),
    ],
)
def test_words_end_at_spaces_signs_and_cuts(cuts: tuple[int, ...], units: list[str]) -> None:
    assert [TEXT[start:end] for start, end in words(TEXT, cuts)] == units


def test_words_keep_the_marks_that_combine_with_their_letters() -> None:
    text = "e\u0301te\u0301 \u1112\u1161\u11ab\u00a0क्षि\u200d"
    assert [text[start:end] for start, end in words(text)] == text.replace("\u00a0", " ").split(" ")


@pytest.mark.parametrize("units", ["words", "characters"])
def test_entities_come_back_from_the_tags(units: str) -> None:
    for seed in range(500):
        draw = random.Random(seed)
        text = "".join(draw.choices("가나 .ab\u3000\t", k=draw.randrange(1, 20)))
        drawn = [EntitySpan(draw.choice("XY"), *sorted(draw.sample(range(len(text) + 1), 2))) for _ in range(3)]
        entities = longest_apart(
            entity for entity in (trimmed(one, text) for one in drawn) if entity.end > entity.start
        )
        cuts = {at for entity in entities for at in (entity.start, entity.end)}
        cut = words(text, cuts) if units == "words" else characters(text)
        found = [
            EntitySpan(kind, cut[first][0], cut[stop - 1][1]) for kind, first, stop in spans(tags_at(cut, entities))
        ]
        assert found == entities


def test_of_entities_that_overlap_the_longest_stays() -> None:
    short, long, next_to, inner = (
        EntitySpan("A", 0, 3),
        EntitySpan("B", 2, 8),
        EntitySpan("C", 8, 9),
        EntitySpan("D", 4, 5),
    )
    assert longest_apart([short, next_to, inner, long]) == [long, next_to]
    assert longest_apart([EntitySpan("A", 2, 4), EntitySpan("B", 0, 2), EntitySpan("C", 1, 3)]) == [
        EntitySpan("B", 0, 2),
        EntitySpan("A", 2, 4),
    ]
    assert overlapping([next_to, long]) is None
    assert overlapping([long, next_to, short]) == (short, long)


def test_the_space_around_an_entity_is_none_of_it() -> None:
    assert trimmed(EntitySpan("A", 4, 5), TEXT) == EntitySpan("A", 5, 5)
    assert trimmed(EntitySpan("A", 0, 5), TEXT) == EntitySpan("A", 0, 4)
    assert trimmed(EntitySpan("A", 4, 9), TEXT) == EntitySpan("A", 5, 9)
