"""Tables of text: columns, quotes, headers, and what is bad."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import Corpus, Tally
from reforge.corpora.csv import Csv
from reforge.spec import UserError

TABLE = 'id,title,text\n1,"하나, 둘","첫 줄\r\n둘째 ""줄"""\n2,셋,넷\n3,,\n'
REVIEWS = 'id\tdocument\tlabel\n1\t"좋은 영화\t1\n2\t\t0\n\n3\t그저 "그런" 영화\t0\n'


def write(file: Path, text: str) -> Path:
    file.write_bytes(text.encode())
    return file


def read(path: Path, **options: object) -> tuple[list[str], Tally]:
    tally = Tally()
    return [document.text for document in Csv(path=path, **options).documents(tally)], tally  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ("text", ['첫 줄\n둘째 "줄"', "넷"]),
        (3, ['첫 줄\n둘째 "줄"', "넷"]),
        (("title", 3), ['하나, 둘\n첫 줄\n둘째 "줄"', "셋\n넷"]),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_quoted_fields_may_hold_lines_and_delimiters(
    tmp_path: Path, column: object, texts: list[str], mark: str
) -> None:
    found, tally = read(write(tmp_path / "a.csv", mark + TABLE), column=column)
    assert found == texts
    assert tally.dropped == {"empty": 1}
    assert not Csv(path=tmp_path).cuttable(Csv(path=tmp_path).whole()[0])


def test_quotes_may_mean_nothing(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]) -> None:
    file = write(tmp_path / "ratings.txt", REVIEWS)
    texts, tally = read(file, column="document", quoting="none")
    assert texts == ['"좋은 영화', '그저 "그런" 영화']
    assert tally.dropped == {"empty": 1}
    for content in (REVIEWS, "\ufeff" + REVIEWS.replace("\n", "\r\n"), REVIEWS.removesuffix("\n"), ""):
        write(file, content)
        reads_the_same_in_ranges(Csv(path=file, column="document", quoting="none"))


def test_columns_by_number_where_there_is_no_header(
    tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]
) -> None:
    file = write(tmp_path / "a.tsv", "가 나\t1\n다, 라\t2\n")
    assert read(file, column=1, header=False)[0] == ["가 나", "다, 라"]
    assert read(file, column=1, header=False, delimiter=",", quoting="none")[0] == ["가 나\t1", "다"]
    reads_the_same_in_ranges(Csv(path=file, column=2, header=False, quoting="none"))
    [problem] = Csv(path=file, header=False).problems()
    assert str(problem) == "column: must be a column's number where there is no header; got 'text'"
    [problem] = Csv(path=file, delimiter='"').problems()
    assert problem.path == ("delimiter",)


@pytest.mark.parametrize("quoting", ["minimal", "none"])
def test_a_missing_column_names_the_nearest(tmp_path: Path, quoting: str) -> None:
    write(tmp_path / "a.csv", "id,texts\n1,가\n")
    with pytest.raises(UserError, match=r"a\.csv: must have a column 'text', has id, texts; did you mean texts\?"):
        read(tmp_path, quoting=quoting)
    write(tmp_path / "b.csv", "id,text\n1,나\n")
    texts, tally = read(tmp_path, quoting=quoting, on_bad_record="skip")
    assert texts == ["나"]
    assert tally.dropped == {"file without a column": 1}


@pytest.mark.parametrize(
    ("row", "says", "reason"),
    [
        ("1", ":3: must have 2 columns as the header, has 1", "record of another length"),
        ("1,a,b", ":3: must have 2 columns as the header, has 3", "record of another length"),
        ('1,"a" b', ":3: no CSV: .* set quoting to none", "record that is no CSV"),
    ],
)
def test_a_bad_row_is_said_or_counted(tmp_path: Path, row: str, says: str, reason: str) -> None:
    write(tmp_path / "a.csv", f"id,text\n1,one\n{row}\n2,two\n")
    with pytest.raises(UserError, match=says):
        read(tmp_path)
    texts, tally = read(tmp_path, on_bad_record="skip")
    assert texts == ["one", "two"]
    assert tally.dropped == {reason: 1}


def test_a_quote_that_never_ends_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 'text\n"one\ntwo\n')
    with pytest.raises(UserError, match=r"a\.csv:3: no CSV: unexpected end of data"):
        read(tmp_path)


def test_a_record_with_a_bad_line_is_dropped_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text\n"one\n\xff\nend"\n\xff\nlast\n')
    texts, tally = read(tmp_path, on_bad_record="skip")
    assert texts == ["last"]
    assert tally.dropped == {"line that is not UTF-8": 2, "record with lines that cannot be read": 1}


def test_long_fields_and_other_encodings(tmp_path: Path) -> None:
    long = "가나다 " * 50_000
    (tmp_path / "a.csv").write_bytes(f"text\n{long}\n".encode("cp949"))
    assert read(tmp_path, encoding="cp949")[0] == [long.strip()]


def test_real_reviews(shared: Path) -> None:
    file = shared / "nsmc" / "ratings_test.txt"
    texts, tally = read(file, column="document", quoting="none")
    assert len(texts) + tally.dropped["empty"] == 50_000
    assert set(tally.dropped) == {"empty"}
