"""Tables with quoting: lines, delimiters and tabs within fields, and how such records are named."""

from pathlib import Path

import pytest

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.csv import Csv
from reforge.corpora.tally import Tally
from reforge.spec import UserError

CONTENT = 'id,text,label\n1,"첫 줄\n둘째, ""줄""\t끝",x\n\n2,한 줄,y\n'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_fields_and_the_line_that_a_record_begins_at(tmp_path: Path, mark: str, end: str) -> None:
    (tmp_path / "a.csv").write_bytes((mark + CONTENT.replace("\n", end)).encode())
    assert list(Csv(path=tmp_path / "a.csv", delimiter=",").read()) == [
        TextExample("a.csv:2", '첫 줄\n둘째, "줄"\t끝', None, "x"),
        TextExample("a.csv:5", "한 줄", None, "y"),
    ]


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text(delimiter.join(["text", "label"]) + "\n" + delimiter.join(['"가"', "x"]) + "\n")
    table = Csv(path=tmp_path / "a.csv", delimiter=delimiter if delimiter == ";" else None)
    assert list(table.read()) == [TextExample("a.csv:2", "가", None, "x")]
    [problem] = Csv(path=tmp_path / "a.csv", delimiter='"', text=1, label=None).problems()
    assert problem.path == ("delimiter",)


def test_what_is_no_csv_is_said_or_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n가,x\n"나" 다,y\n라,z\n')
    with pytest.raises(UserError, match=r"a\.csv:3: no CSV: .*Where quotes mean nothing, take kind: tsv"):
        list(Csv(path=tmp_path / "a.csv").read())
    tally = Tally()
    found = list(Csv(path=tmp_path / "a.csv", on_bad_record="skip").read(tally=tally))
    assert [example.key for example in found] == ["a.csv:2", "a.csv:4"]
    assert tally.dropped == {"record that is no CSV": 1}


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"document","sentiment",\n가,x,\n')
    with pytest.raises(UserError, match=r"no column 'documnt'; did you mean document\? Columns: document, sentiment$"):
        list(Csv(path=tmp_path / "a.csv", text="documnt").read())
