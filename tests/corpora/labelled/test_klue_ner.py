"""KLUE's characters with tags: spaces are tokens, heads name the sentences, and whatever else a line can hold."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from reforge.corpora import Tally
from reforge.corpora.labelled import TaggedExample
from reforge.corpora.labelled.klue_ner import KlueNer
from reforge.spec import UserError

COMMENTS = "## 칸 : \\t\n## 컬럼 : 글자\t태그\n"
FARM = "## farm-1\t<소리:PS>네 밭\n소\tB-PS\n리\tI-PS\n네\tO\n \tO\n밭\tO\n\n## farm-2\t#\n#\tO\n"
EXAMPLES = [
    TaggedExample("farm-1", "소리네 밭", ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)), ("B-PS", "I-PS", "O", "O", "O")),
    TaggedExample("farm-2", "#", ((0, 1),), ("O",)),
]


def read(folder: Path, text: str, labelled: bool = True, **options: Any) -> tuple[list[Any], Tally]:
    (folder / "ner.tsv").write_bytes(text.encode())
    tally = Tally()
    return list(KlueNer(path=folder / "ner.tsv", **options).read(labelled=labelled, tally=tally)), tally


@pytest.mark.parametrize(
    "text",
    [
        COMMENTS + FARM,
        FARM,
        "\ufeff" + (COMMENTS + FARM).replace("\n", "\r\n"),
        COMMENTS + FARM.replace("\n\n", "\n"),
        COMMENTS + "\n\n" + FARM + "\n\n",
    ],
    ids=["as KLUE has it", "no comments", "BOM and CRLF", "no blank lines", "more blank lines"],
)
def test_sentences_by_the_character(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)[0] == EXAMPLES


def test_a_sentence_without_a_head_is_named_by_its_line(tmp_path: Path) -> None:
    examples, _ = read(tmp_path, "가\tO\n\n나\tO\n")
    assert [example.key for example in examples] == ["ner.tsv:1", "ner.tsv:3"]


@pytest.mark.parametrize(
    "character",
    [
        "\t",
        "\u00a0",
        "\u3000",
        "\u200b",
        "\u2028",
        "\x0b",
        "\u1112",
        unicodedata.normalize("NFD", "한"),
        "e\u0301",
        "\u2764\ufe0f",
        "👩\u200d🌾",
    ],
    ids=ascii,
)
def test_any_character_is_one_unit(tmp_path: Path, character: str) -> None:
    [example], _ = read(tmp_path, f"가\tO\n{character}\tB-PS\n나\tO\n")
    assert example.text == f"가{character}나"
    assert example.units[1] == (1, 1 + len(character))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FARM + "\n\tO\n", r"ner\.tsv:11: must be a character, a tab and a tag, got '\\tO'"),
        (FARM + "\n가\tO\n \n나\tO\n", r"ner\.tsv:12: must be a character, a tab and a tag, got ' '"),
        (FARM + "\n가O\n", r"ner\.tsv:11: must be a character, a tab and a tag, got '가O'"),
        (FARM + "\n소리\tB-PS\n", r"ner\.tsv:11: must be one character, got '소리'; words with tags are of kind conll"),
        (FARM + "\n## farm-3\t\n\n", r"ner\.tsv:11: must have characters below it"),
        (FARM + "\n가\tPS\n", r"ner\.tsv:11: must be O or a mark and a type"),
        (COMMENTS, r"ner\.tsv holds no example"),
        ("", r"ner\.tsv holds no example"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_bad_sentence_is_counted_by_reason(tmp_path: Path) -> None:
    examples, tally = read(tmp_path, FARM + "\n가O\n", on_bad_record="skip")
    assert examples == EXAMPLES
    assert tally.dropped == {"line of another layout": 1}


@pytest.mark.parametrize("text", [FARM, "## farm-1\n소\n리\n네\n \n밭\n\n## farm-2\n#\n"])
def test_a_set_to_be_predicted_needs_no_tags(tmp_path: Path, text: str) -> None:
    examples, _ = read(tmp_path, text, labelled=False)
    assert examples == [example._replace(tags=None) for example in EXAMPLES]
