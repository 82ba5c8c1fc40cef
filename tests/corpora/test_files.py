"""Paths to files: what they stand for, and what is wrong with them."""

from pathlib import Path

import pytest

from reforge.corpora import Document, Tally
from reforge.corpora.reader import Reader
from reforge.corpora.text import Text
from reforge.spec import UserError


def texts(path: Path, **options: object) -> list[str]:
    return [document.text for document in Text(path=path, **options).documents(Tally())]  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path = tmp_path / "corpus"
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("하나\n")
    (tmp_path / "b" / "no_extension").write_text("둘\n")
    (tmp_path / "b" / "deep" / "c.md").write_text("셋\n")
    (tmp_path / ".hidden").write_text("숨김\n")
    return tmp_path


def test_a_path_is_a_file_a_directory_or_a_pattern(folder: Path) -> None:
    assert texts(folder / "a.txt") == ["하나"]
    assert texts(folder) == ["하나", "셋", "둘"]
    assert texts(folder / "*.txt") == ["하나"]
    assert texts(folder / "**" / "*.md") == ["셋"]
    assert texts(folder / "*") == ["하나", "셋", "둘"]


def test_names_do_not_depend_on_where_the_corpus_stands(folder: Path) -> None:
    names = ["a.txt", "b/deep/c.md", "b/no_extension"]
    assert Text(path=folder).file_names() == names
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert Text(path=moved).file_names() == names
    assert Text(path=moved / "b*" / "**" / "*.md").file_names() == ["b/deep/c.md"]
    assert Text(path=moved).identity() == Text(path=folder).identity()


def test_a_missing_path_names_its_nearest_neighbour(folder: Path) -> None:
    [problem] = Text(path=folder / "b" / "deeep" / "x").problems()
    assert problem.path == ("path",)
    assert problem.rule == "must exist"
    assert problem.nearest == str(folder / "b" / "deep")
    assert list(Text(path=folder).problems()) == []


def test_a_path_without_files_is_a_problem(tmp_path: Path) -> None:
    [problem] = Text(path=tmp_path).problems()
    assert problem.rule == "must be a file or hold files"
    [problem] = Text(path=tmp_path / "*.txt").problems()
    assert problem.rule == "must match a file"


@pytest.mark.parametrize("before", ["", "\ufeff", "가나다\r\n" * 1000, "\ufeff" + "x" * 100_000 + "\n"])
def test_bytes_that_are_not_utf8_are_named_with_their_offset(tmp_path: Path, before: str) -> None:
    file = tmp_path / "cp949.txt"
    good = before.encode() + "좋은 ".encode()
    file.write_bytes(good + "나쁜".encode("cp949") + b"\nmore\n")
    with pytest.raises(UserError, match=rf"cp949\.txt is not UTF-8: byte 0xb3 at offset {len(good)}\."):
        texts(file)


def test_a_sequence_cut_off_by_the_end_of_the_file_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes("가나".encode()[:-1])
    with pytest.raises(UserError, match="at offset 3"):
        texts(tmp_path / "cut")


def test_byte_order_marks_and_line_ends_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes("\ufeff첫 줄\r\n둘째 줄\r\n".encode())
    assert list(Reader(tmp_path / "windows.txt", "windows.txt", Tally()).lines()) == ["첫 줄", "둘째 줄"]


def test_documents_by_file_or_by_blank_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\none\ntwo\n\n\nthree\n")
    (tmp_path / "b").write_text(" \n\n")
    assert texts(tmp_path) == ["one\ntwo\n\n\nthree"]
    tally = Tally()
    documents = list(Text(path=tmp_path, documents_by="blank_line").documents(tally))
    assert documents == [Document("a: byte 1", "one\ntwo"), Document("a: byte 11", "three")]
    assert tally.files == 2
