"""Lines of a file and of its ranges, and what is said about those that can't be read."""

import gzip
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import Tally, reader
from reforge.corpora.csv import Csv
from reforge.corpora.jsonl import Jsonl
from reforge.corpora.reader import Reader
from reforge.corpora.text import Text
from reforge.spec import UserError

CONTENTS = {
    "empty": b"",
    "no newline at the end": "가나\n다".encode(),
    "blank lines": b"\n\n\na\n\n",
    "windows": "첫 줄\r\n둘째\r\n\r\n셋째".encode(),
    "byte order mark": "\ufeff첫 줄\n둘째 😀\n".encode(),
    "only a byte order mark": "\ufeff".encode(),
    "carriage returns within": b"a\rb\r\r\nc\r",
    "other line ends": "a\u2028b\x0bc\x1cd\n\x85e\n".encode("utf-8"),
}


def lines(file: Path, start: int = 0, stop: int | None = None, **options: object) -> list[str]:
    return list(Reader(file, file.name, Tally(), "fail", start, stop).lines(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("block_bytes", [1 << 20, 3])
def test_every_line_is_read_by_exactly_one_of_any_two_ranges(
    tmp_path: Path, content: bytes, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_BLOCK_BYTES", block_bytes)
    file = tmp_path / "a"
    file.write_bytes(content)
    text = content.decode("utf-8-sig")
    expected = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    found = lines(file)
    assert found in (expected, [""])  # a byte order mark alone is one line without text
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(content))
    for cut in range(len(content) + 2):
        assert lines(file, 0, cut) + lines(file, cut) == found
        assert lines(packed, 0, cut) + lines(packed, cut) == found


def test_ranges_end_only_where_a_document_may_begin(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("# 하나\n글\n글\n# 둘\n\n# 셋\n글")
    found = lines(file)
    for first in range(40):
        for second in range(first, 40):
            bounds = [0, first, second, None]
            parts = [
                lines(file, start or 0, stop, cut_before=lambda line: line.startswith("#"))
                for start, stop in itertools.pairwise(bounds)
            ]
            assert list(itertools.chain(*parts)) == found
            assert all(part[0].startswith("#") for part in parts if part)


def test_offsets_are_bytes_and_lines_have_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes("\ufeff가\r\n나\n다".encode())
    found = Reader(file, "a", Tally(), start=0)
    assert [(line, found.offset, found.line_number()) for line in found.lines()] == [
        ("가", 0, 1),
        ("나", 8, 2),
        ("다", 12, 3),
    ]
    for start in range(9, 13):
        found = Reader(file, "a", Tally(), start=start)
        assert [(line, found.offset, found.place()) for line in found.lines()] == [("다", 12, f"{file}:3")]


def test_a_skipped_place_is_named_without_reading_the_file_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n\xff\n\xff\n")
    for start, places in ((0, ["offset 4", "offset 6"]), (5, ["offset 6"])):
        tally = Tally()
        assert len(list(Reader(tmp_path / "a", "a", tally, "skip", start).lines())) == (start == 0)
        assert tally.dropped == {"line that is not UTF-8": len(places)}
        assert all(place in message for place, message in zip(places, tally.trouble, strict=True))
        found = Reader(tmp_path / "a", "a", tally, "skip", start)
        next(found.raw_lines())
        assert found.place() == (f"{tmp_path / 'a'}:1" if start == 0 else f"{tmp_path / 'a'}: byte 6")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("한글이 잘못 적힌 파일".encode("cp949"), r"byte 0xc7 at offset 0\. It reads as CP949: convert the file "),
        ("앞은 유니코드 ".encode() + "뒤는 완성형".encode("cp949"), "It reads as CP949"),
        ("안녕하세요\n".encode("utf-16"), r"byte 0xff at offset 0\. It reads as UTF-16: convert the file "),
        (b"caf\xe9 au lait", r"at offset 3\. Convert the file to UTF-8, leave it out, or set on_bad_record to skip$"),
        ("가".encode()[:-1], "at offset 0"),
        (b"text\0with\0nothing", "a:1: must be text, holds NUL bytes as UTF-16 and binary files do"),
    ],
)
def test_text_in_another_encoding_is_said_with_a_guess(tmp_path: Path, raw: bytes, says: str) -> None:
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(UserError, match=says):
        lines(tmp_path / "a")


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16"])
def test_text_in_a_named_encoding(tmp_path: Path, encoding: str) -> None:
    text = "첫 줄\r\n둘째 줄\n"
    (tmp_path / "a").write_bytes(text.encode(encoding))
    assert lines(tmp_path / "a", encoding=encoding) == ["첫 줄", "둘째 줄"]
    assert Reader(tmp_path / "a", "a", Tally()).first_line(encoding) == "첫 줄"  # type: ignore[arg-type]


def test_a_wrongly_named_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("올바른 유니코드 글이다")
    with pytest.raises(UserError, match=r"is not CP949: .* It reads as UTF-8: leave the option out"):
        lines(tmp_path / "a", encoding="cp949")


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_LINE_BYTES", 100)
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 7)
    file = tmp_path / "a"
    file.write_bytes(b"short\n" + b"x" * 101 + b"\n" + b"y" * 100 + b"\nend\n" + b"z" * 500)
    expected = ["short", "y" * 100, "end"]
    for cut in range(0, 720, 5):
        tally = Tally()
        ranges = [Reader(file, "a", tally, "skip", 0, cut), Reader(file, "a", tally, "skip", cut)]
        assert [line for part in ranges for line in part.lines()] == expected
        assert tally.dropped == {"line too long": 2}
    with pytest.raises(UserError, match="a:2: a line of more than 0 MiB"):
        lines(file)


def test_the_damage_of_a_packed_file_is_counted_once(tmp_path: Path) -> None:
    file = tmp_path / "a.gz"
    content = b"".join(b"line %d\n" % number for number in range(300))
    file.write_bytes(gzip.compress(content)[:-200])
    whole = Tally()
    expected = list(Reader(file, "a", whole, "skip").lines())
    assert 100 < len(expected) < 300
    assert whole.dropped == {"rest of a damaged file": 1}
    for cut in range(0, len(content), 11):
        tally = Tally()
        ranges = [Reader(file, "a", tally, "skip", 0, cut), Reader(file, "a", tally, "skip", cut)]
        assert [line for part in ranges for line in part.lines()] == expected
        assert tally.dropped == whole.dropped
    with pytest.raises(UserError, match=r"a\.gz is no whole \.gz file"):
        lines(file)


PIECES = [
    *(b"\n", b"\n\n", b"\r\n", b"\r", b"\0", b"\xff", b" ", b"\t", b"a", b"text", b"[]", b'"', b"\xc2\x85"),
    *("가".encode(), "\ufeff".encode(), "한글".encode("cp949")),
    *(b'{"text": "x"}', b'{"text": "\xea\xb0\x80\\n"}', b'{"text": 1}'),
]


@pytest.mark.parametrize("seed", range(12))
def test_anything_at_all_reads_the_same_in_ranges(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, reads_the_same_in_ranges: Callable[..., None]
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(reader, "_BLOCK_BYTES", chance.choice([1, 2, 7, 1 << 20]))
    monkeypatch.setattr(reader, "_LINE_BYTES", chance.choice([8, 30, 1 << 28]))
    content = gzip.compress(b"".join(chance.choices(PIECES, k=30)))
    file = tmp_path / "a.txt.gz"
    file.write_bytes(content[: chance.choice([None, -1, chance.randrange(10, len(content))])])
    for corpus in (
        Text(path=file, documents_by="line", on_bad_record="skip"),
        Text(path=file, documents_by="blank_line", on_bad_record="skip"),
        Jsonl(path=file, on_bad_record="skip", encoding=chance.choice(["utf-8", "cp949"])),
        Csv(path=file, column=1, header=chance.choice([True, False]), quoting="none", on_bad_record="skip"),
        Csv(path=file, quoting="none", on_bad_record="skip"),
    ):
        reads_the_same_in_ranges(corpus, times=1)
