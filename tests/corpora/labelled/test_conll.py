"""CoNLL columns: tokens and tags as their file has them, whatever separates them, and every fault at its line."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from reforge.corpora import Tally
from reforge.corpora.labelled import TaggedExample
from reforge.corpora.labelled.conll import Conll
from reforge.spec import UserError

ADA = "Ada\tB-PER\nLovelace\tI-PER\nsings\tO\n\nin\tO\nYork\tB-LOC\n"
ADA_EXAMPLES = [
    TaggedExample("a.conll:1", "Ada Lovelace sings", ((0, 3), (4, 12), (13, 18)), ("B-PER", "I-PER", "O")),
    TaggedExample("a.conll:5", "in York", ((0, 2), (3, 7)), ("O", "B-LOC")),
]


def read(folder: Path, text: str | bytes, labelled: bool = True, **options: Any) -> tuple[list[Any], Tally]:
    file = folder / "a.conll"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    tally = Tally()
    return list(Conll(path=file, **options).read(labelled=labelled, tally=tally)), tally


@pytest.mark.parametrize(
    "text",
    [
        ADA,
        ADA.replace("\t", " "),
        ADA.replace("\t", " \t NNP  x\t ").replace("\t", "  "),
        ADA.replace("\n", "\r\n"),
        "\ufeff" + ADA,
        ADA.replace("\n\n", "\n\t\n").removesuffix("\n"),
        ADA.replace("B-", "").replace("I-", ""),
        ADA.replace("I-PER", "E-PER").replace("B-LOC", "S-LOC"),
    ],
    ids=["tabs", "spaces", "more columns", "CRLF", "BOM", "blank line with a tab", "io", "iobes"],
)
def test_every_spelling_of_the_same_sentences(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)[0] == ADA_EXAMPLES


def test_document_begins_and_comments_are_no_tokens_but_hashtags_are(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\n# id = 1\n# a much longer comment\n#gig NN O\nin IN O\n# NN O\n\n-DOCSTART- -X- O\n"
    [example], tally = read(tmp_path, text)
    assert (example.key, example.text, example.tags) == ("a.conll:5", "#gig in #", ("O", "O", "O"))
    assert tally.documents == 1
    with pytest.raises(UserError, match=r"a\.conll:3: must have 3 columns as line 6 has, has 4: # \| id \| = \| 1"):
        read(tmp_path, text, comments=False)


def test_other_columns_and_another_join(tmp_path: Path) -> None:
    text = "1\tB-PER\t에\t_\n2\tI-PER\t이\t_\n3\tO\t다\t_\n"
    [example], _ = read(tmp_path, text, token_column=3, tag_column=2, join="")
    assert example == TaggedExample("a.conll:1", "에이다", ((0, 1), (1, 2), (2, 3)), ("B-PER", "I-PER", "O"))


def test_tokens_keep_spaces_that_are_no_separators(tmp_path: Path) -> None:
    [example], _ = read(tmp_path, "New York\tB-LOC\n10\u00a0000\tO\n\u200b\tO\n\u3000\tO\n")
    assert [example.text[start:end] for start, end in example.units] == ["New York", "10\u00a0000", "\u200b", "\u3000"]
    [example], _ = read(tmp_path, "10\u00a0000 O\n\u3000 O\n")
    assert [example.text[start:end] for start, end in example.units] == ["10\u00a0000", "\u3000"]


def test_tags_without_their_begin_are_mended_and_counted(tmp_path: Path) -> None:
    [example], tally = read(tmp_path, "a\tB-PER\nb\tO\nc\tI-PER\nd\tI-LOC\n")
    assert example.tags == ("B-PER", "O", "B-PER", "B-LOC")
    assert tally.fixed == {"I- without a begin made a B-": 2}
    [example], tally = read(tmp_path, "a\tI-PER\nb\tI-PER\nc\tB-PER\n")
    assert example.tags == ("B-PER", "I-PER", "B-PER")
    assert tally.fixed == {"I- at an entity's begin, as IOB1 has it": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tO\nb\n", r"a\.conll:2: must have 2 columns as line 1 has, has 1: b"),
        ("a\tO\nb\tX\tO\n", r"a\.conll:2: must have 2 columns as line 1 has, has 3"),
        ("a\nb\n", r"a\.conll:1: must have a token in column 1, a tag in -1, has 1 column$"),
        ("a\tO\n\tO\n", r"a\.conll:2: must have a token, its column is empty"),
        ("a\tB-PER\n\nb\tPER\n", r"a\.conll:3: must be O or a mark and a type \(B-PER\)"),
        ("a\tB-PER\nb\tB-PER,B-LOC\n", r"a\.conll:2: must be one tag, got several: B-PER,B-LOC"),
        ("a\tO\nb\t\n", r"a\.conll:2: must be a tag, got ''; did you mean O\?"),
        ("", r"a\.conll holds no example$"),
        ("\n \n-DOCSTART- O\n", r"a\.conll holds no example$"),
        ("이름\tO\n".encode("cp949"), r"a\.conll is not UTF-8: byte 0x.* set encoding: cp949"),
        ("가\tO\n".encode("utf-16"), r"a\.conll is not UTF-8: .*UTF-16"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_bad_sentence_is_left_out_whole_and_counted(tmp_path: Path) -> None:
    text = "a\tB-PER\nb\n\nc\tB-PER\n\nd\tO\n\xff\tO\n\ne\tPER\n\n".encode("latin-1")
    examples, tally = read(tmp_path, text, on_bad_record="skip")
    assert [example.text for example in examples] == ["c"]
    assert tally.dropped == {
        "line with another number of columns": 1,
        "line that is not UTF-8": 1,
        "sentence with a line that cannot be read": 1,
        "tag of another form": 1,
    }
    assert any("a.conll:9: must be O or" in message for message in tally.trouble)


@pytest.mark.parametrize("text", [ADA, "Ada\nLovelace\nsings\n\nin\nYork\n"])
def test_a_set_to_be_predicted_needs_no_tags(tmp_path: Path, text: str) -> None:
    examples, _ = read(tmp_path, text, labelled=False)
    assert examples == [example._replace(tags=None) for example in ADA_EXAMPLES]


def test_packed_files_other_encodings_and_another_path(tmp_path: Path) -> None:
    packed = tmp_path / "b.conll.gz"
    packed.write_bytes(gzip.compress("에이다\tB-PER\n".encode("cp949")))
    [example] = Conll(path=tmp_path / "none.conll", encoding="cp949").read(packed)
    assert example == TaggedExample("b.conll.gz:1", "에이다", ((0, 3),), ("B-PER",))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"tag_column": 1}, "tag_column: must be another column than token_column; got 1"),
        ({"token_column": 0}, "token_column: must be a column's number, from 1 on or from -1 backwards; got 0"),
    ],
)
def test_token_and_tag_are_two_columns(tmp_path: Path, columns: dict[str, int], problem: str) -> None:
    (tmp_path / "a.conll").write_text(ADA)
    assert [problem] == [str(found) for found in Conll(path=tmp_path / "a.conll", **columns).problems()]
