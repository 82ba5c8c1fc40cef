"""The scores of tags, against seqeval and scikit-learn on the same tags."""

import random

import pytest

from reforge.corpora.labelled import TaggedExample
from reforge.tasks.entity_scores import are_characters, entity_scorecard

NAMES = ("O", "B-LC", "I-LC", "B-PS", "I-PS")


def examples(num: int, join: str = "") -> list[TaggedExample]:
    drawn = random.Random(0)
    found = []
    for number in range(num):
        size = drawn.randint(0, 12)
        text = "".join(drawn.choices("가나 다", k=size)) if not join else "가나 " * size
        units = [(3 * n, 3 * n + 2) for n in range(size)] if join else [(n, n + 1) for n in range(size)]
        found.append(TaggedExample(f"x:{number}", text, tuple(units), tuple(drawn.choices(NAMES, k=size))))
    return found


def guesses(given: list[TaggedExample]) -> list[tuple[str, ...]]:
    drawn = random.Random(1)
    return [tuple(tag if drawn.random() < 0.7 else drawn.choice(NAMES) for tag in one.tags or ()) for one in given]


def test_figures_are_those_of_seqeval() -> None:
    from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score

    given = examples(60, join=" ")
    found = guesses(given)
    gold, guess = [list(one.tags or ()) for one in given], [list(tags) for tags in found]
    card = entity_scorecard(given, found, NAMES)
    expected = {
        "f1": f1_score(gold, guess),
        "precision": precision_score(gold, guess),
        "recall": recall_score(gold, guess),
        "macro_f1": f1_score(gold, guess, average="macro"),
        "accuracy": accuracy_score(gold, guess),
    }
    assert card.metrics == pytest.approx(expected, abs=1e-9)
    report = classification_report(gold, guess, output_dict=True)
    for kind in ("LC", "PS"):
        assert list(card.per_class[kind].values()) == pytest.approx(list(report[kind].values()), abs=1e-9)
    assert card.confusion is not None
    assert card.confusion.names == ("O", "LC", "PS")
    assert card.confusion.counts.sum() == sum(map(len, gold))


def test_figures_of_characters_are_those_of_scikit_learn_and_klue() -> None:
    from seqeval.metrics import f1_score as entity_f1
    from seqeval.scheme import IOB2
    from sklearn.metrics import f1_score

    given = examples(60)
    found = guesses(given)
    gold, guess = list[str](), list[str]()
    framed_gold, framed_guess = list[str](), list[str]()
    for one, tags in zip(given, found, strict=True):
        kept = [place for place, char in enumerate(one.text) if char != " "]
        own, its = [(one.tags or ())[place] for place in kept], [tags[place] for place in kept]
        gold, guess = gold + own, guess + its
        framed_gold, framed_guess = [*framed_gold, "O", *own, "O"], [*framed_guess, "O", *its, "O"]
    metrics = entity_scorecard(given, found, NAMES).metrics
    assert metrics["char_f1"] == pytest.approx(f1_score(gold, guess, labels=NAMES[1:], average="macro"), abs=1e-9)
    klue_char = f1_score(framed_gold, framed_guess, labels=list(NAMES), average="macro", zero_division=1.0)
    assert metrics["klue_char_f1"] == pytest.approx(klue_char, abs=1e-9)
    klue = entity_f1([framed_gold], [framed_guess], average="macro", mode="strict", scheme=IOB2)
    assert metrics["klue_f1"] == pytest.approx(klue, abs=1e-9)


def test_nothing_found_and_nothing_there_count_as_0() -> None:
    given = [TaggedExample("x:1", "가나 가나", ((0, 2), (3, 5)), ("O", "O")), TaggedExample("x:2", "", (), ())]
    card = entity_scorecard(given, [("O", "O"), ()], NAMES)
    assert card.metrics == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "macro_f1": 0.0, "accuracy": 1.0}
    assert card.per_class == {}
    assert entity_scorecard(given[1:], [()], NAMES).metrics["accuracy"] == 0.0


def test_what_counts_as_a_character() -> None:
    def of(*units: str) -> list[TaggedExample]:
        return [TaggedExample("x:1", unit, ((0, len(unit)),), None) for unit in units]

    assert are_characters(of("가", " ", "é", "e\u0301", "👨\u200d👩"))
    assert not are_characters(of("가", "나다"))
    assert not are_characters([])
