"""Exact match and F1: the published scorers' rules one by one, and their figures on thousands of answers."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reforge.tasks.answer_scores import ANSWER_SCORERS, Match, ScorerName, normalise_korquad, normalise_squad

KORQUAD = Path(__file__).parents[2] / ".." / "shared" / "data" / "korquad-v1" / "KorQuAD_v1.0_dev.json"
SCORERS: dict[ScorerName, str] = {"korquad": "REFORGE_KORQUAD_SCORER", "squad": "REFORGE_SQUAD_SCORER"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("《구름 위의 산책》", "구름 위의 산책"),
        ("〈강〉<산>(들)‘꽃’'풀'\"별\"", "강 산 들 꽃 풀 별"),
        ("3.5km, 약 2-3일!", "35km 약 23일"),
        ("  여러\t 칸\n ", "여러 칸"),
        ("The ABC", "the abc"),
        ("“큰따옴표”와 「낫표」", "“큰따옴표”와 「낫표」"),
        ("()", ""),
    ],
)
def test_korquad_leaves(text: str, left: str) -> None:
    assert normalise_korquad(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The Cat, a dog and AN owl.", "cat dog and owl"),
        ("U.S.A.", "usa"),
        ("a.m. (the)", "am"),
        ("theatre", "theatre"),
        ("‘quoted’", "‘quoted’"),
        ("a", ""),
    ],
)
def test_squad_leaves(text: str, left: str) -> None:
    assert normalise_squad(text) == left


def test_korquad_counts_characters_and_squad_words() -> None:
    korean = ANSWER_SCORERS["korquad"]
    assert korean.match("호랑이는", ["호랑이"]) == Match(pytest.approx(2 * 3 / (4 + 3)), 0.0)
    assert korean.match("랑호이", ["호랑이"]) == Match(1.0, 0.0)
    assert korean.match("호 랑이", ["호랑이"]) == Match(1.0, 0.0)
    assert korean.match("가가나", ["가나나"]) == Match(pytest.approx(2 / 3), 0.0)
    english = ANSWER_SCORERS["squad"]
    assert english.match("the old mill", ["old windmill"]) == Match(pytest.approx(0.5), 0.0)
    assert english.match("mills", ["mill"]) == Match(0.0, 0.0)


def test_the_best_of_several_true_answers_counts() -> None:
    match = ANSWER_SCORERS["korquad"].match("서울 강남", ["부산", "서울", "서울강남", "서울, 강남"])
    assert match == Match(1.0, 1.0)


def test_nothing_equals_nothing_but_shares_no_character() -> None:
    # As published: what is left of both is empty, so they match, and F1 has nothing in common to count.
    assert ANSWER_SCORERS["korquad"].match("()", ['"']) == Match(0.0, 1.0)


@pytest.mark.parametrize("scorer", ANSWER_SCORERS.values())
def test_where_there_is_no_answer_only_none_is_right(scorer: Any) -> None:
    assert scorer.match("", []) == Match(1.0, 1.0)
    assert scorer.match("강", []) == Match(0.0, 0.0)
    assert scorer.match("", ["강"]) == Match(0.0, 0.0)


def published(script: str, data: dict[str, Any], answers: dict[str, str], folder: Path) -> dict[str, float]:
    """What a published scorer prints, which are percents."""
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    command = [sys.executable, script, str(folder / "data.json"), str(folder / "answers.json")]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def questions_of(data: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Key, context and true answers of each question."""
    return [
        (question["id"], paragraph["context"], [answer["text"] for answer in question["answers"]])
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def damaged(truth: str, rng: random.Random) -> str:
    """An answer as a model may give it: cut, longer, in other signs, or right."""
    changes = [
        truth,
        truth[rng.randrange(len(truth)) :],
        truth[: rng.randrange(len(truth)) + 1],
        rng.choice(["the ", "A ", "《", "(", "'", "약 "]) + truth,
        truth + rng.choice(["은", "에서", ".", "》", "!?", "\n", " (a)", "-", "“"]),
        "".join(rng.sample(truth, len(truth))),
        truth.upper(),
        "",
    ]
    return rng.choice(changes)


def english_questions(text: str, rng: random.Random) -> dict[str, Any]:
    """Stretches of a text's paragraphs as answers, three to a question, in SQuAD's layout."""
    articles = []
    for number, paragraph in enumerate(text.split("\n\n")):
        words = paragraph.split()
        if len(words) < 10:
            continue
        answers = [" ".join(words[start : start + rng.randint(1, 5)]) for start in rng.sample(range(len(words)), 3)]
        asked = {"id": str(number), "question": "?", "answers": [{"text": answer} for answer in answers]}
        articles.append({"paragraphs": [{"context": paragraph, "qas": [asked]}]})
    return {"version": "1.1", "data": articles}


@pytest.mark.slow  # the published scorers take seconds
@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("how", ["gold", "damaged", "random"])
def test_scores_are_those_of_the_published_scorer(
    name: ScorerName, how: str, corpus_file: Path, tmp_path: Path
) -> None:
    script = os.environ.get(SCORERS[name])
    if script is None:
        pytest.skip(f"{SCORERS[name]} does not give the path of the published scorer")
    rng = random.Random(how)
    if name == "squad":
        data = english_questions(corpus_file.read_text(encoding="utf-8")[:300_000], rng)
    elif KORQUAD.exists():
        data = json.loads(KORQUAD.read_text(encoding="utf-8"))
    else:
        pytest.skip(f"no real data at {KORQUAD}")
    answers, matches = {}, []
    for key, context, truths in questions_of(data):
        start = rng.randrange(len(context))
        stretch = context[start : start + rng.randint(1, 30)]
        guess = {"gold": truths[0], "damaged": damaged(truths[0], rng), "random": stretch}[how]
        answers[key] = guess
        matches.append(ANSWER_SCORERS[name].match(guess, truths))
    assert len(matches) > 50
    expected = published(script, data, answers, tmp_path)
    assert 100 * sum(match.f1 for match in matches) / len(matches) == pytest.approx(expected["f1"], abs=1e-9)
    assert 100 * sum(match.exact for match in matches) / len(matches) == pytest.approx(
        expected["exact_match"], abs=1e-9
    )
    print(name, how, len(matches), expected)
