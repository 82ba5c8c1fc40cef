"""Both layouts of sets tagged by eojeol, and words and tags of different counts."""

from pathlib import Path
from typing import Any

import pytest

from reforge.corpora import Tally
from reforge.corpora.labelled import TaggedExample
from reforge.corpora.labelled.naver_ner import NaverNer
from reforge.spec import UserError

SENTENCES = "에이다는 2층 창가에서 노래한다\tPER-B NUM-B NUM-I O\n밤이다\tO\n"
ROWS = "1\t에이다는\tPER_B\n2\t2층\tNUM_B\n3\t창가에서\tNUM_I\n4\t노래한다\t-\n\n1\t밤이다\t-\n"
EXAMPLES = [
    TaggedExample(
        "ner.txt:1",
        "에이다는 2층 창가에서 노래한다",
        ((0, 4), (5, 7), (8, 12), (13, 17)),
        ("B-PER", "B-NUM", "I-NUM", "O"),
    ),
    TaggedExample("ner.txt:2", "밤이다", ((0, 3),), ("O",)),
]
ROW_EXAMPLES = [EXAMPLES[0], EXAMPLES[1]._replace(key="ner.txt:6")]


def read(folder: Path, text: str, labelled: bool = True, **options: Any) -> tuple[list[Any], Tally]:
    (folder / "ner.txt").write_bytes(text.encode())
    tally = Tally()
    return list(NaverNer(path=folder / "ner.txt", **options).read(labelled=labelled, tally=tally)), tally


@pytest.mark.parametrize(
    "text",
    [
        SENTENCES,
        "\ufeff" + SENTENCES.replace("\n", "\r\n"),
        SENTENCES.replace(" ", "  "),
        SENTENCES.replace("PER-B", "B-PER").replace("NUM-B", "B-NUM").replace("NUM-I", "I-NUM"),
    ],
    ids=["suffix", "BOM and CRLF", "two spaces", "prefix"],
)
def test_a_sentence_a_line(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)[0] == EXAMPLES


@pytest.mark.parametrize("text", [ROWS, ROWS.replace("\n", "\r\n")])
def test_an_eojeol_a_line(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)[0] == ROW_EXAMPLES


def test_numbers_that_begin_again_begin_a_sentence(tmp_path: Path) -> None:
    examples, _ = read(tmp_path, ROWS.replace("\n\n", "\n"))
    assert [example.key for example in examples] == ["ner.txt:1", "ner.txt:5"]


def test_a_number_can_be_a_word(tmp_path: Path) -> None:
    [example], _ = read(tmp_path, "1\tNUM-B\n")
    assert (example.text, example.tags) == ("1", ("B-NUM",))
    [example], _ = read(tmp_path, "10\u00a0000 원\tNUM-B NUM-I\n")
    assert example.units == ((0, 6), (7, 8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SENTENCES + "가 나\tO\n", r"ner\.txt:3: must have as many tags as words, has 2 words and 1 tags"),
        (SENTENCES + "가 나\n", r"ner\.txt:3: must be words, a tab, tags; has 0 tabs"),
        (SENTENCES + "\t\n" + " \tO", r"ner\.txt:4: must have as many tags as words, has 0 words and 1 tags"),
        (SENTENCES + "가\tPER\n", r"ner\.txt:3: must be O or a type and a mark \(PER-B\)"),
        (ROWS + "2\t가\n", r"ner\.txt:7: must be a number, an eojeol and a tag .* got 2 \| 가"),
        (ROWS + "2\t\t-\n", r"ner\.txt:7: must be a number, an eojeol and a tag"),
        ("", r"ner\.txt holds no example"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_bad_sentence_is_counted_by_reason(tmp_path: Path) -> None:
    examples, tally = read(tmp_path, SENTENCES + "가 나\tO\n", on_bad_record="skip")
    assert examples == EXAMPLES
    assert tally.dropped == {"words and tags of different counts": 1}


@pytest.mark.parametrize("text", [SENTENCES, ROWS, "에이다는 2층 창가에서 노래한다\n밤이다\n"])
def test_a_set_to_be_predicted_needs_no_tags(tmp_path: Path, text: str) -> None:
    examples, _ = read(tmp_path, text, labelled=False)
    assert [example[1:] for example in examples] == [(*example[1:3], None) for example in EXAMPLES]
    examples, _ = read(tmp_path, "1\t밤이다\n", labelled=False)
    assert [example.text for example in examples] == ["밤이다"]
