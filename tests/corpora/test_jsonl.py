"""JSON lines: which text comes out of which columns, and what is bad."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import Corpus, Document, Tally
from reforge.corpora.jsonl import Jsonl
from reforge.spec import UserError

RECORDS = [
    {"title": "하나", "body": "첫 글이다.", "meta": {"note": "가"}, "a.b": "점"},
    {"title": None, "body": "둘째 글에는 제목이 없다.", "meta": {"note": "나"}, "a.b": "점"},
    {"title": "셋", "body": " \n", "meta": {"note": None}, "a.b": "점"},
]


def write(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(path: Path, **options: object) -> tuple[list[str], Tally]:
    tally = Tally()
    return [document.text for document in Jsonl(path=path, **options).documents(tally)], tally  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ("body", ["첫 글이다.", "둘째 글에는 제목이 없다."]),
        ("meta.note", ["가", "나"]),
        ("a.b", ["점", "점", "점"]),
        (("title", "body"), ["하나\n첫 글이다.", "둘째 글에는 제목이 없다.", "셋"]),
    ],
)
def test_the_text_of_columns(tmp_path: Path, column: str | tuple[str, ...], texts: list[str]) -> None:
    file = write(tmp_path / "a.jsonl", *(json.dumps(record, ensure_ascii=False) for record in RECORDS))
    found, tally = read(file, column=column)
    assert found == texts
    assert tally.dropped == ({"empty": 3 - len(texts)} if len(texts) < 3 else {})


@pytest.mark.parametrize(
    ("line", "says", "reason"),
    [
        ('{"body": "가"', r"a\.jsonl:3: no JSON: .* at column 1\d$", "line that is no JSON"),
        ('{"body": "\\ud800"}', r":3: no JSON: ", "line that is no JSON"),
        ("[" * 10_000, r":3: no JSON: recursion limit exceeded", "line that is no JSON"),
        ("[]", r":3: must be a JSON object, got list", "line that is no JSON object"),
        (
            '{"bodi": "가", "id": 1}',
            r":3: must have a text 'body', has columns bodi, id; did you mean bodi\?",
            "record without a text 'body'",
        ),
        ('{"body": 3}', r":3: must have a text 'body', it is of type int", "record without a text 'body'"),
    ],
)
def test_a_bad_line_is_said_or_counted(tmp_path: Path, line: str, says: str, reason: str) -> None:
    file = write(tmp_path / "a.jsonl", '{"body": "one"}', "", line, '{"body": "two"}')
    with pytest.raises(UserError, match=says):
        read(file, column="body")
    texts, tally = read(file, column="body", on_bad_record="skip")
    assert texts == ["one", "two"]
    assert tally.dropped == {reason: 1}
    assert len(tally.trouble) == 1


def test_bytes_that_are_no_text_are_said_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "한글"}\n'.encode("cp949"))
    with pytest.raises(UserError, match=r"is not UTF-8: byte 0xc7 at offset 10\. It reads as CP949"):
        read(tmp_path)
    assert read(tmp_path, encoding="cp949")[0] == ["한글"]
    (tmp_path / "a.jsonl").write_text('{"text": "한글"}\n', encoding="utf-16")
    assert read(tmp_path, encoding="utf-16")[0] == ["한글"]


def test_a_directory_holds_json_lines_by_their_endings(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"text": "one"}')
    write(tmp_path / "README.md", "nothing for a machine")
    write(tmp_path / "petitions", '{"text": "two"}')
    assert read(tmp_path)[0] == ["one"]
    assert read(tmp_path / "petitions")[0] == ["two"]
    (tmp_path / "a.jsonl").unlink()
    [problem] = Jsonl(path=tmp_path).problems()
    assert "must be a file or hold files that end in .jsonl or .jsonl.gz" in problem.rule


def test_lines_in_ranges(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]) -> None:
    lines = [json.dumps({"text": f"글 {number} 😀"}, ensure_ascii=number % 2 == 0) for number in range(8)]
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(["\ufeff" + lines[0], "", *lines[1:], "no JSON"]).encode())
    (tmp_path / "b.jsonl").write_bytes(b"")
    corpus = Jsonl(path=tmp_path, on_bad_record="skip")
    assert corpus.kind == "jsonl"
    assert next(corpus.documents(Tally())) == Document("a.jsonl: byte 0", "글 0 😀")
    reads_the_same_in_ranges(corpus)
