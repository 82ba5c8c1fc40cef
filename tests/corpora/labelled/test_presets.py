"""The sets that have a kind of their own: each one's layout in sentences of ours, and the counts of the real files."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from reforge.corpora.labelled import LABELLED, Example, TextExample
from reforge.corpora.labelled.klue_sts import KlueSts
from reforge.corpora.tally import Tally

NLI = [{"guid": "a-1", "premise": "비가 온다.", "hypothesis": "날이 맑다.", "gold_label": "contradiction"}]
STS = [
    {"guid": "b-1", "sentence1": "물이 차다.", "sentence2": "물이 차갑다.",
     "labels": {"label": 4.3, "real-label": 4.286, "binary-label": 1}},
]  # fmt: skip
REVIEWS = 'id\tdocument\tlabel\n7\t또 "보고" 싶다\t1\n8\t\t0\n'
KORNLI = 'sentence1\tsentence2\tgold_label\n비가 온다.\t"날" 흐림\tneutral\n'
KORSTS = "genre\tscore\tsentence1\tsentence2\nx\t4.200\t물이 차다.\t물이 차갑다.\n"
PAWS = "id\tsentence1\tsentence2\tlabel\n1\t갑이 을에게\t을이 갑에게\t0\n"
QUESTIONS = "question1\tquestion2\tis_duplicate\n몇 시야?\t지금 몇 시?\t0\n"
QUESTIONS_CSV = 'id,question1,question2,is_duplicate,\n1,"네, 몇 시?\t",몇 시야?,1,\n2,"어디?\n여기?",어디야?,0,\n'
LAYOUTS = [
    ("nsmc", REVIEWS, '또 "보고" 싶다', None, "positive"),
    ("kornli", KORNLI, "비가 온다.", '"날" 흐림', "neutral"),
    ("korsts", KORSTS, "물이 차다.", "물이 차갑다.", 4.2),
    ("paws", PAWS, "갑이 을에게", "을이 갑에게", "different"),
    ("question_pair", QUESTIONS, "몇 시야?", "지금 몇 시?", "same"),
    ("klue_nli", json.dumps(NLI), "비가 온다.", "날이 맑다.", "contradiction"),
    ("klue_sts", json.dumps(STS), "물이 차다.", "물이 차갑다.", 4.286),
]


@pytest.mark.parametrize(("kind", "content", "text", "pair", "label"), LAYOUTS, ids=[layout[0] for layout in LAYOUTS])
def test_the_layout(tmp_path: Path, kind: str, content: str, text: str, pair: str | None, label: str | float) -> None:
    (tmp_path / "file.txt").write_text(content, encoding="utf-8")
    options = LABELLED[kind](path=tmp_path / "file.txt")  # type: ignore[call-arg]
    [example] = options.read()
    assert isinstance(example, TextExample)
    assert (example.text, example.pair, example.label) == (text, pair, label)
    assert list(options.problems()) == []


def test_question_pair_in_csv(tmp_path: Path) -> None:
    (tmp_path / "pairs.CSV").write_bytes(("\ufeff" + QUESTIONS_CSV.replace("\n", "\r\n")).encode())
    assert list(LABELLED["question_pair"](path=tmp_path / "pairs.CSV").read()) == [  # type: ignore[call-arg]
        TextExample("pairs.CSV:2", "네, 몇 시?", "몇 시야?", "different"),
        TextExample("pairs.CSV:3", "어디?\n여기?", "어디야?", "same"),
    ]


def test_klue_sts_as_classes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(STS))
    options = KlueSts(path=tmp_path / "a.json", binary=True)
    assert [example.label for example in options.read() if isinstance(example, TextExample)] == ["same"]
    assert KlueSts.model_validate_json(options.model_dump_json()) == options
    [problem] = KlueSts(path=tmp_path / "a.json", binary=True, score=True, labels={}).problems()
    assert problem.path == ("score",)


REAL = [
    ("nsmc", "nsmc/ratings_test.txt", 49_997, {"positive": 25_171, "negative": 24_826}),
    ("korsts", "korsts/sts-train.tsv", 5_749, None),
    ("korsts", "korsts/sts-dev.tsv", 1_500, None),
    ("korsts", "korsts/sts-test.tsv", 1_379, None),
    ("kornli", "kornli/xnli.dev.ko.tsv", 2_490, {"entailment": 830, "neutral": 830, "contradiction": 830}),
    ("paws", "paws-x-ko/dev_2k.tsv", 2_000, {"different": 1_160, "paraphrase": 840}),
    ("question_pair", "question-pair/train.txt", 6_136, {"same": 4_169, "different": 1_967}),
    ("question_pair", "question-pair/validation.txt", 682, {"same": 432, "different": 250}),
    ("question_pair", "question-pair/test.txt", 758, {"same": 508, "different": 250}),
    ("question_pair", "question-pair/kor_pair_train.csv", 6_888, {"same": 4_750, "different": 2_138}),
    ("question_pair", "question-pair/kor_Pair_test.csv", 688, {"same": 359, "different": 329}),
    ("klue_nli", "klue/klue-nli-v1.1_dev.json", 3_000, {"entailment": 1_000, "neutral": 1_000, "contradiction": 1_000}),
    ("klue_sts", "klue/klue-sts-v1.1_dev.json", 519, None),
]


@pytest.mark.parametrize(("kind", "file", "count", "labels"), REAL, ids=[real[1] for real in REAL])
def test_real_files(shared: Path, kind: str, file: str, count: int, labels: dict[str, int] | None) -> None:
    tally = Tally()
    examples = list(texts(LABELLED[kind](path=shared / file).read(tally=tally)))  # type: ignore[call-arg]
    assert len(examples) == len({example.key for example in examples}) == count
    assert tally.dropped == ({"empty": 3} if kind == "nsmc" else {})
    if labels:
        assert Counter(example.label for example in examples) == labels
    else:
        assert all(isinstance(example.label, float) and 0 <= example.label <= 5 for example in examples)


@pytest.mark.slow  # reads 150,000 examples
def test_all_reviews(shared: Path) -> None:
    tally = Tally()
    examples = list(texts(LABELLED["nsmc"](path=shared / "nsmc" / "ratings_train.txt").read(tally=tally)))  # type: ignore[call-arg]
    assert Counter(example.label for example in examples) == {"negative": 75_170, "positive": 74_825}
    assert tally.dropped == {"empty": 5}


def texts(examples: Iterator[Example]) -> Iterator[TextExample]:
    for example in examples:
        assert isinstance(example, TextExample)
        yield example
