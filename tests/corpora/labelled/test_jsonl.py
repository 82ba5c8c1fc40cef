"""JSON lines, lists and objects with a list: the same examples, and what is wrong with each."""

import json
from pathlib import Path

import pytest

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.jsonl import Jsonl
from reforge.corpora.tally import Tally
from reforge.spec import UserError

RECORDS = [
    {"text": "가", "label": "x", "more": {"class": 1, "exact-score": 2.5}},
    {"text": "나", "label": True, "more": {"class": 0.0, "exact-score": 3}},
]


def lines(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.mark.parametrize("form", ["lines", "list", "indented list", "object", "indented object"])
def test_every_form_gives_the_same(tmp_path: Path, form: str) -> None:
    indent = 2 if "indented" in form else None
    if form == "lines":
        content, keys, options = lines(RECORDS), ["a.json:1", "a.json:2"], {}
    else:
        value = RECORDS if "list" in form else {"version": 1, "data": RECORDS}
        content, keys = json.dumps(value, ensure_ascii=False, indent=indent), ["a.json: row 1", "a.json: row 2"]
        options = {"records": "data"} if "object" in form else {}
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert list(Jsonl(path=tmp_path, **options).read()) == [
        TextExample(keys[0], "가", None, "x"),
        TextExample(keys[1], "나", None, "true"),
    ]


def test_nested_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(RECORDS), encoding="utf-8")
    scores = Jsonl(path=tmp_path, label="more.exact-score", score=True).read()
    assert [example.label for example in scores if isinstance(example, TextExample)] == [2.5, 3.0]
    classes = Jsonl(path=tmp_path, label="more.class", id="label").read()
    assert list(classes) == [TextExample("x", "가", None, "1"), TextExample("True", "나", None, "0")]


@pytest.mark.parametrize(
    ("record", "says", "reason"),
    [
        ({"text": "나"}, r"there is no column 'label'\. Columns: text", "record without a column 'label'"),
        ({"text": "나", "labels": 1}, r"'label'; did you mean labels\?", "record without a column 'label'"),
        (
            {"text": 3, "label": 1},
            r"must have a text in column 'text', it is of type int",
            "record without a text 'text'",
        ),
        ({"text": "나", "label": None}, r"must have a class in column 'label', it is empty", "record without a label"),
        ({"text": "나", "label": [1]}, r"must have a class .*, it is of type list", "record without a label"),
    ],
)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_a_bad_record_is_said_or_counted(
    tmp_path: Path, record: dict[str, object], says: str, reason: str, form: str
) -> None:
    records = [{"text": "가", "label": 1}, record]
    (tmp_path / "a.json").write_text(lines(records) if form == "lines" else json.dumps(records), encoding="utf-8")
    place = r"a\.json:2: " if form == "lines" else r"a\.json: row 2: "
    with pytest.raises(UserError, match=place + ".*" + says):
        list(Jsonl(path=tmp_path / "a.json").read())
    tally = Tally()
    found = list(Jsonl(path=tmp_path / "a.json", on_bad_record="skip").read(tally=tally))
    assert len(found) == 1
    assert tally.dropped == {reason: 1}


def test_a_nested_column_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(RECORDS), encoding="utf-8")
    with pytest.raises(UserError, match=r"no column 'more\.exact_score'; did you mean more\.exact-score\?"):
        list(Jsonl(path=tmp_path, label="more.exact_score").read())


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ('{\n "data": []\n}', {}, r"is one object: name with `records` the list in it"),
        ('{"data": []}', {"records": "date"}, r"a\.json:1: must have a list 'date', has data; did you mean data\?"),
        ('[{"text": "가", "label": 1},\n{"text"', {}, r"a\.json:2: no JSON: "),
        ("[1]", {}, r"row 1: must be an object, got int"),
        ('{"text": "가"', {}, r"a\.json:1: no JSON: "),
        ('[{"text": "가\\ud83d", "label": 1}]', {}, r"a\.json:1: no JSON: .* at column 21"),
        (" \n", {}, r"a\.json holds no example$"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: str, options: dict[str, str], says: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        list(Jsonl(path=tmp_path / "a.json", **options).read())


@pytest.mark.parametrize("content", ['[{"text": "한글", "label": 1}]', '{"text": "한글", "label": 1}'])
def test_other_encodings(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("cp949"))
    with pytest.raises(UserError, match=r"a\.json is not UTF-8: byte 0xc7 at offset 1\d\. It reads as CP949"):
        list(Jsonl(path=tmp_path).read())
    [example] = Jsonl(path=tmp_path, encoding="cp949").read()
    assert isinstance(example, TextExample)
    assert example.text == "한글"
