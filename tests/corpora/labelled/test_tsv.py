"""Tables parted by tabs, without quoting: what a line may hold and what is wrong with it."""

from pathlib import Path

import pytest

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.tsv import Tsv
from reforge.corpora.tally import Tally
from reforge.spec import UserError

HEADER = "id\ttext\tlabel\n"


def write(file: Path, content: str, encoding: str = "utf-8") -> Tsv:
    file.write_bytes(content.encode(encoding))
    return Tsv(path=file)


def test_quotes_mean_nothing_and_lines_end_either_way(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "\ufeff" + HEADER + '1\t"좋은 "영화\tx\n\n2\t다른 영화"\ty\n')
    expected = [TextExample("a.tsv:2", '"좋은 "영화', None, "x"), TextExample("a.tsv:4", '다른 영화"', None, "y")]
    assert list(table.read()) == expected
    content = table.path.read_bytes()
    table.path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert list(table.read()) == expected


def test_a_column_that_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", HEADER + "1\t가\tx\n")
    says = r"a\.tsv: there is no column 'lable'; did you mean label\? Columns: id, text, label$"
    with pytest.raises(UserError, match=says):
        list(Tsv(path=table.path, label="lable").read())
    [problem] = Tsv(path=table.path, label="lable").problems()
    assert "did you mean label?" in problem.rule
    with pytest.raises(UserError, match=r"there is no column 4, the header has 3"):
        list(Tsv(path=table.path, text=4).read())


@pytest.mark.parametrize(("row", "count"), [("2\t나", 2), ("2\t나\ty\tz", 4), ("2 나 y", 1)])
def test_a_row_of_another_length_is_said_or_counted(tmp_path: Path, row: str, count: int) -> None:
    table = write(tmp_path / "a.tsv", HEADER + f"1\t가\tx\n{row}\n3\t다\tz\n")
    with pytest.raises(UserError, match=rf"a\.tsv:3: must have 3 columns as the header, has {count}"):
        list(table.read())
    tally = Tally()
    found = list(Tsv(path=table.path, on_bad_record="skip").read(tally=tally))
    assert [example.key for example in found] == ["a.tsv:2", "a.tsv:4"]
    assert tally.dropped == {"record of another length": 1}
    assert len(tally.trouble) == 1


def test_nameless_columns_at_the_end_may_be_missing(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "text\tlabel\t\t\n가\tx\n나\ty\t\n다\tz\t\t\t\t\n")
    assert [example.label for example in table.read() if isinstance(example, TextExample)] == ["x", "y", "z"]


def test_a_name_that_stands_twice_is_no_name(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "text\tlabel\ttext\n가\tx\t나\n")
    with pytest.raises(UserError, match=r"the columns 1 and 3 are both called 'text': give the number of one"):
        list(table.read())
    assert list(Tsv(path=table.path, text=3).read()) == [TextExample("a.tsv:2", "나", None, "x")]


def test_rows_without_a_header_must_reach_the_last_column(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "가\tx\t1\n나\n")
    with pytest.raises(UserError, match=r"a\.tsv:2: must have 2 columns or more, has 1"):
        list(Tsv(path=table.path, text=1, label=2, header=False).read())


def test_other_encodings(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", HEADER + "1\t한글 문장\tx\n", "cp949")
    with pytest.raises(UserError, match=r"is not UTF-8: byte 0x.. at offset 16\. It reads as CP949"):
        list(table.read())
    for encoding in ("cp949", "utf-16"):
        write(tmp_path / "a.tsv", HEADER + "1\t한글 문장\tx\n", encoding)
        found = list(Tsv(path=table.path, encoding=encoding).read())  # type: ignore[arg-type]
        assert found == [TextExample("a.tsv:2", "한글 문장", None, "x")]


def test_a_text_of_100_000_characters(tmp_path: Path) -> None:
    [example] = write(tmp_path / "a.tsv", HEADER + f"1\t{'가나다라 ' * 20_000}\tx\n").read()
    assert isinstance(example, TextExample)
    assert len(example.text) == 99_999
