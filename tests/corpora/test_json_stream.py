"""Lists in JSON, element by element, with reads of any size."""

import io
import json
from itertools import islice
from typing import Any, BinaryIO

import pytest

from reforge.corpora import json_stream
from reforge.corpora.json_stream import BrokenJsonError, NoListError, elements

RECORDS: list[Any] = [{"글": 'a "b" \\ é 한 😀'}, [1, -2.5e3, True, None], "", {}, 12345678901234567890, "끝"]


def read(content: bytes, key: str = "data") -> list[Any]:
    return list(elements(io.BytesIO(content), key, "a.json"))


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_elements_do_not_depend_on_how_much_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, indent: int | None, ensure_ascii: bool
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", chunk_bytes)
    data = {"id": "x", "other": [{"data": [0]}], "data": RECORDS, "more": {"data": 1}}
    for whole in (RECORDS, data):
        assert read(json.dumps(whole, indent=indent, ensure_ascii=ensure_ascii).encode()) == RECORDS
    assert read(b" [ ] \n") == read(b'\xef\xbb\xbf{"data": []}') == []


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize(
    ("content", "message", "num_before"),
    [
        (b"", ":1: no JSON: Expecting value", 0),
        (b"nothing", ":1: no JSON: Expecting value", 0),
        (b"[1, 2", "expected ',', got the end", 2),
        (b"[1, 2,]", "no JSON: ',' before ']'", 2),
        (b'{"data": [1],}', "no JSON: ',' before '}'", 1),
        (b'[1,\n2,\n{"a": 1 "b"}]', ":3: no JSON: Expecting ',' delimiter", 2),
        (b'["one", "two]', "Unterminated string", 1),
        (b'["a\nb"]', ":1: no JSON: Invalid control character", 0),
        (b'[1, "\\u12zz"]', "Invalid \\\\uXXXX escape", 1),
        (b"[1] [2]", "expected its end", 1),
        (b"{data: [1]}", "expected a key in double quotes", 0),
        (b'{"data" [1]}', "expected ':'", 0),
        (b'[1,\n"\xb0\xa1"]', ":2: no JSON: byte 0xb0 is not UTF-8", 1),
        (b"[1]\xb0", "byte 0xb0 is not UTF-8", 1),
        (b"[1, " + b"[" * 100_000, "nested too deep", 1),
    ],
)
def test_what_is_broken_is_said_with_its_line(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, content: bytes, message: str, num_before: int
) -> None:
    if len(content) < 1000:
        monkeypatch.setattr(json_stream, "_CHUNK_BYTES", chunk_bytes)
    found = elements(io.BytesIO(content), "data", "a.json")
    assert len(list(islice(found, num_before))) == num_before
    with pytest.raises(BrokenJsonError, match=message):
        next(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"rows": [1], "n": 2}', "a.json: must have a list 'data', has rows, n"),
        (b'{"data": {}}', "must have a list 'data', has data"),
        (b"{}", "has nothing"),
        (b"3", "must be a list or an object"),
    ],
)
def test_json_without_the_list_is_told_apart_from_broken_json(content: bytes, message: str) -> None:
    with pytest.raises(NoListError, match=message):
        read(content)


class Endless(io.RawIOBase):
    """A list that opens a string and never closes it. num_read: bytes that were asked for."""

    num_read = 0

    def read(self, size: int = -1) -> bytes:
        self.num_read += size
        return (b'["' if self.num_read == size else b"") + b"x" * size


def test_a_string_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(json_stream, "_VALUE_CHARS", 1 << 16)
    content: Any = Endless()
    stream: BinaryIO = content
    with pytest.raises(BrokenJsonError, match="Unterminated string"):
        next(elements(stream, "data", "a.json"))
    assert content.num_read < 1 << 18
