"""AI Hub's parallel corpora: workbooks in their seven column sets, JSON of later sets, archives of both."""

import json
import unicodedata
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from upath import UPath

from reforge.corpora import Document, Tally
from reforge.corpora.aihub import Aihub
from reforge.spec import UserError

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "aihub"
COLUMN_SETS: dict[str, list[str]] = {
    "1_구어체(1).xlsx": ["SID"],
    "2_대화체.xlsx": ["대분류", "소분류", "상황", "Set Nr.", "발화자"],
    "3_문어체_뉴스(1)_200226.xlsx": ["ID", "날짜", "자동분류1", "자동분류2", "자동분류3", "URL", "언론사"],
    "4_문어체_한국문화.xlsx": ["ID", "키워드"],
    "5_문어체_조례.xlsx": ["ID", "지자체"],
}
RAIN = ("어제는 비가 왔다.", "It rained yesterday.")
BREAD = ("빵을 두 개 샀다.", "I bought two loaves.")
HEADER = ["SID", "원문", "번역문"]


def workbook(*rows: list[Any], title: str = "Sheet1") -> bytes:
    book = Workbook()
    assert book.active is not None
    book.active.title = title
    for row in rows:
        book.active.append(row)
    return saved(book)


def saved(book: Workbook) -> bytes:
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def archive(**members: bytes) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, member in members.items():
            packed.writestr(name, member)
    return content.getvalue()


def read(path: Path, **options: Any) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(Aihub(path=path, **options).documents(tally)), tally


def texts(path: Path, **options: Any) -> list[str]:
    return [document.text for document in read(path, **options)[0]]


def test_the_two_columns_are_found_in_every_set(tmp_path: Path) -> None:
    for number, (name, columns) in enumerate(COLUMN_SETS.items()):
        row = [*range(len(columns)), f"문장 {number}이다.", f"This is sentence {number}."]
        (tmp_path / name).write_bytes(workbook([*columns, "원문", "번역문"], row))
    assert texts(tmp_path, side="ko") == [f"문장 {number}이다." for number in range(len(COLUMN_SETS))]
    assert texts(tmp_path, side="en") == [f"This is sentence {number}." for number in range(len(COLUMN_SETS))]


def test_both_sides_come_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(workbook([" 번역문 ", "원문", "비고"], [RAIN[1], RAIN[0]], [BREAD[1], BREAD[0]]))
    documents, tally = read(tmp_path)
    assert [(document.name, document.text) for document in documents] == [
        ("a.xlsx: row 2, ko", RAIN[0]),
        ("a.xlsx: row 2, en", RAIN[1]),
        ("a.xlsx: row 3, ko", BREAD[0]),
        ("a.xlsx: row 3, en", BREAD[1]),
    ]
    assert (tally.files, tally.documents, tally.characters) == (1, 4, sum(map(len, RAIN + BREAD)))


def test_a_pair_has_the_same_key_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "뉴스.xlsx").write_bytes(workbook(HEADER, [1, *RAIN], [2, *BREAD]))
    decomposed = unicodedata.normalize("NFD", BREAD[0])
    (tmp_path / "문화.xlsx").write_bytes(
        workbook(["ID", *HEADER], [1, 1, f" {decomposed}\n", BREAD[1]], [2, 2, *RAIN[::-1]])
    )
    keys = Counter(document.key for document in read(tmp_path)[0])
    assert sorted(keys.values()) == [1, 1, 1, 1, 2, 2]
    assert Aihub(path=tmp_path).keyed


def test_cells_without_text_are_counted(tmp_path: Path) -> None:
    rows = [
        [1, *RAIN],
        [2, None, BREAD[1]],
        [3, BREAD[0], "  "],
        [4, 12, 13.5],
        [4, "#NAME?", BREAD[1]],
        [5, None, None],
        [],
        [6, " 첫째 줄이고\r\n 둘째 줄이다. ", "Line one,_x000D_\nline two."],
    ]
    (tmp_path / "a.xlsx").write_bytes(workbook(HEADER, *rows))
    documents, tally = read(tmp_path)
    assert [document.text for document in documents] == [*RAIN, "첫째 줄이고 둘째 줄이다.", "Line one, line two."]
    assert documents[-1].name == "a.xlsx: row 9, en"
    assert tally.dropped == {
        "empty on one side": 2,
        "empty row": 2,
        "number or date in place of text": 1,
        "Excel's error in place of text": 1,
    }
    assert tally.fixed == {
        "line break within a text": 2,
        "white space around a text": 1,
        "character escaped by Excel": 1,
    }


def test_a_workbook_without_the_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(workbook(["ID", "원문", "번역"], [1, *RAIN]))
    (tmp_path / "b.xlsx").write_bytes(workbook(HEADER, [1, *BREAD]))
    (tmp_path / "c.xlsx").write_bytes(workbook())
    with pytest.raises(
        UserError, match=r"a\.xlsx: must have the columns 원문 and 번역문 .* has ID, 원문, 번역; is '번역' meant"
    ):
        read(tmp_path)
    documents, tally = read(tmp_path, on_bad_record="skip")
    assert [document.text for document in documents] == list(BREAD)
    assert tally.dropped == {"workbook without 원문 and 번역문": 2}
    assert "has no rows" in tally.trouble[1]


def test_sheets_beside_the_one_with_the_columns_are_counted(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.append(["이 통합 문서는 연습용이다."])
    sheet = book.create_sheet("본문")
    sheet.append([])
    for row in ([], HEADER, [1, *RAIN]):
        sheet.append(row)
    (tmp_path / "a.xlsx").write_bytes(saved(book))
    documents, tally = read(tmp_path)
    assert [document.name for document in documents] == ["a.xlsx: row 4, ko", "a.xlsx: row 4, en"]
    assert tally.dropped == {"sheet without 원문 and 번역문": 1}


@pytest.mark.parametrize("cut", [0, 100, 3000, -60])
def test_a_damaged_workbook_is_named_or_counted(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a.xlsx").write_bytes(workbook(HEADER, *([n, *RAIN] for n in range(50)))[:cut])
    with pytest.raises(UserError, match=r"a\.xlsx is no whole \.xlsx workbook"):
        read(tmp_path)
    documents, tally = read(tmp_path, on_bad_record="skip")
    assert documents == []
    assert tally.dropped == {"rest of a damaged file": 1}


def test_archives_give_the_same_as_what_they_hold(tmp_path: Path) -> None:
    names = ["1_구어체(1).xlsx", "4_문어체_한국문화.xlsx"]
    members = [workbook(HEADER, [1, *RAIN]), workbook(HEADER, [1, *BREAD])]
    inner = archive(**{names[1]: members[1]})
    packed = archive(**{"말뭉치/" + names[0]: members[0], "말뭉치/~$x.xlsx": b"", "읽기.txt": b"", "안.zip": inner})
    (tmp_path / "aihub.zip").write_bytes(packed)
    documents, tally = read(tmp_path)
    assert [document.text for document in documents] == [*RAIN, *BREAD]
    assert documents[0].name == "aihub.zip/말뭉치/1_구어체(1).xlsx: row 2, ko"
    assert documents[2].name == "aihub.zip/안.zip/4_문어체_한국문화.xlsx: row 2, ko"
    assert tally.files == 1


def test_json_of_later_sets(tmp_path: Path) -> None:
    one = {"sn": "A1", "ko_original": "원래 글", "ko": RAIN[0], "mt": "Machine words.", "en": RAIN[1], "ner": None}
    two = {"sn": "A2", "en_original": BREAD[1], "ko": BREAD[0], "mt": "기계가 옮긴 글"}
    (tmp_path / "025.json").write_text(json.dumps({"data": [one, two]}, ensure_ascii=False), encoding="utf-8-sig")
    three = {"sid": 1, "분야": "의료", "한국어": "약을 먹었다.", "영어": "I took the medicine."}
    (tmp_path / "a.zip").write_bytes(archive(**{"전문분야.json": json.dumps([three]).encode()}))
    documents, tally = read(tmp_path)
    assert [document.text for document in documents] == [*RAIN, *BREAD, "약을 먹었다.", "I took the medicine."]
    assert documents[2].name == "025.json: record 2, ko"
    assert not tally.dropped


@pytest.mark.parametrize(
    ("content", "message", "reason", "kept"),
    [
        ('{"data": [{"ko": "가", "en": "a"},\n {"ko": ', r":2: no JSON: Expecting value", "rest of a damaged file", 2),
        (
            '{"items": [{"ko": "가", "en": "a"}]}',
            "must have a list 'data', has items",
            "file without a list of records",
            0,
        ),
        ('[{"ko": "가", "ja": "a"}]', r"record 1: must have .* has ko, ja", "record without both languages", 0),
        ("[3]", r"record 1: must have .* has a int", "record without both languages", 0),
        ('[{"ko": "가", "en": null}]', "", "empty on one side", 0),
        ('[{"ko": "가 \\ud800", "en": "a"}, {"ko": " ", "en": " "}]', "", "empty row", 2),
    ],
)
def test_bad_json_is_named_or_counted(tmp_path: Path, content: str, message: str, reason: str, kept: int) -> None:
    (tmp_path / "a.json").write_text(content)
    if message:
        with pytest.raises(UserError, match=message):
            read(tmp_path)
    documents, tally = read(tmp_path, on_bad_record="skip")
    assert len(documents) == kept
    assert tally.dropped == {reason: 1}


def test_remote_files() -> None:
    folder = UPath("memory://aihub")
    (folder / "a.xlsx").write_bytes(workbook(HEADER, [1, *RAIN]))
    (folder / "b.zip").write_bytes(archive(**{"b.xlsx": workbook(HEADER, [1, *BREAD])}))
    assert texts(folder) == [*RAIN, *BREAD]  # type: ignore[arg-type]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}")
def test_real_files() -> None:
    documents, tally = read(REAL)
    korean, english = documents[::2], documents[1::2]
    rows = Counter(document.name.split("_")[0] for document in korean)
    assert rows == {"1": 900, "2": 540, "3": 2400, "4": 200, "5": 200, "6": 200}
    assert tally.files == 10
    for side in (korean, english):
        assert len(side) - len({document.key for document in side}) == 4
    assert texts(REAL / "2_대화체.xlsx", side="ko") == [d.text for d in korean if d.name.startswith("2_")]
    assert texts(REAL / "2_대화체.xlsx", side="en") == [d.text for d in english if d.name.startswith("2_")]
