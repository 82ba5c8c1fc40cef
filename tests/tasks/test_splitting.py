"""Sets divided: no text on both sides, labels evenly, the same for any order of the file's lines."""

import random
from collections import Counter
from itertools import combinations

import pytest

from reforge.corpora.labelled import Example, QuestionExample, TaggedExample, TextExample
from reforge.tasks.splitting import assign, read_texts, sample, texts_of


def unique_texts(count: int) -> list[Example]:
    """Texts that differ from each other; nine of ten are good."""
    return [TextExample(f"a:{n}", f"review number {n}", None, "bad" if n % 10 == 0 else "good") for n in range(count)]


def pairs_that_share_texts() -> list[Example]:
    """Chains of pairs, as in sets where each text stands in several of them; either text may be the common one."""
    chance = random.Random(0)
    texts = [f"question {number}" for number in range(400)]
    return [
        TextExample(f"p:{n}", *chance.sample(texts[n // 10 * 10 : n // 10 * 10 + 10], 2), chance.choice(["yes", "no"]))
        for n in range(300)
    ]


def by_part(examples: list[Example], parts: list[int], count: int) -> list[list[Example]]:
    return [[example for example, part in zip(examples, parts, strict=True) if part == k] for k in range(count)]


def test_equal_texts_are_never_on_both_sides() -> None:
    examples = pairs_that_share_texts()
    parts = by_part(examples, assign(examples, [0.6, 0.2, 0.2], seed=1), 3)
    assert all(parts)
    for one, other in combinations(parts, 2):
        assert not {t for e in one for t in texts_of(e)} & {t for e in other for t in texts_of(e)}


def test_a_text_repeated_with_another_label_stays_on_its_side() -> None:
    examples = [TextExample(f"a:{n}", f"review {n % 7}", None, "good" if n % 2 else "bad") for n in range(70)]
    parts = assign(examples, [0.5, 0.5], seed=1)
    assert set(parts) == {0, 1}
    sides = {(example.text, part) for example, part in zip(examples, parts, strict=True)}
    assert len(sides) == 7


def test_questions_of_an_article_stay_together() -> None:
    examples: list[Example] = [
        QuestionExample(f"q:{n}", f"question {n}", f"context {n}", (), f"article {n % 12}") for n in range(60)
    ]
    parts = by_part(examples, assign(examples, [0.5, 0.5], seed=1), 2)
    articles = [{texts_of(example)[0] for example in part} for part in parts]
    assert not articles[0] & articles[1]
    assert [len(found) for found in articles] == [6, 6]


def test_every_label_is_divided_as_the_shares_say() -> None:
    examples = unique_texts(400)
    parts = by_part(examples, assign(examples, [0.7, 0.1, 0.2], seed=1), 3)
    counts = [Counter(e.label for e in part) for part in parts if all(isinstance(e, TextExample) for e in part)]  # type: ignore[union-attr]
    for count, share in zip(counts, (0.7, 0.1, 0.2), strict=True):
        assert abs(count["good"] - 360 * share) <= 1
        assert abs(count["bad"] - 40 * share) <= 1


def test_scores_and_entities_are_divided_evenly_too() -> None:
    scored: list[Example] = [TextExample(f"s:{n}", f"one {n}", f"two {n}", float(n % 6)) for n in range(120)]
    parts = by_part(scored, assign(scored, [0.5, 0.5], seed=1), 2)
    assert Counter(e.label for e in parts[0]) == Counter(e.label for e in parts[1])  # type: ignore[union-attr]
    tagged: list[Example] = [
        TaggedExample(f"t:{n}", f"text {n}", ((0, 4),), ("B-PER" if n % 5 == 0 else "O",)) for n in range(100)
    ]
    parts = by_part(tagged, assign(tagged, [0.5, 0.5], seed=1), 2)
    assert [sum(e.tags == ("B-PER",) for e in part) for part in parts] == [10, 10]  # type: ignore[union-attr]


def test_the_order_of_the_lines_changes_nothing_where_texts_are_unique() -> None:
    examples = unique_texts(200)
    mixed = random.Random(3).sample(examples, len(examples))
    one, other = (dict(zip(order, assign(order, [0.8, 0.2], seed=1), strict=True)) for order in (examples, mixed))
    assert one == other
    drawn, again = sample(examples, 20, seed=1), sample(mixed, 20, seed=1)
    assert set(drawn) == set(again)
    assert drawn == sorted(drawn, key=examples.index)  # in the order of their set


def test_another_seed_divides_and_draws_in_another_way() -> None:
    examples = unique_texts(200)
    assert assign(examples, [0.8, 0.2], seed=1) != assign(examples, [0.8, 0.2], seed=2)
    assert sample(examples, 20, seed=1) != sample(examples, 20, seed=2)


def test_a_sample_is_of_the_size_asked_for_or_all_there_is() -> None:
    examples = unique_texts(30)
    assert [len(sample(examples, count, seed=1)) for count in (None, 1, 29, 30, 31)] == [30, 1, 29, 30, 30]


def test_a_sample_of_questions_is_of_many_articles() -> None:
    examples: list[Example] = [
        QuestionExample(f"q:{n}", f"question {n}", f"context {n // 20}", (), f"article {n // 20}") for n in range(400)
    ]
    assert len({texts_of(example) for example in sample(examples, 40, seed=1)}) > 10
    assert read_texts(examples[0]) == ("question 0", "context 0")


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_a_partition_of_equal_parts(folds: int) -> None:
    examples = unique_texts(200)
    parts = by_part(examples, assign(examples, [1 / folds] * folds, seed=1), folds)
    assert sorted(e.key for part in parts for e in part) == sorted(e.key for e in examples)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 2  # one for each label
