"""What comes out of packed files, whole, cut short and foreign."""

import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from reforge.corpora import streams
from reforge.corpora.streams import DamagedError, is_packed, unpacked
from reforge.spec import UserError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
# Hardly compressible, so that a cut leaves something to read.
TEXT = "".join(random.Random(1).choices("가나다라마바사아자차카타파하 \n", k=60_000)).encode()


def content_of(file: Path, start: int = 0, piece: int = 4096) -> tuple[bytes, bool]:
    """All that can be read, and whether it ended well."""
    found = b""
    try:
        with unpacked(file, start) as content:
            while part := content.read1(piece):
                found += part
    except DamagedError as error:
        return found, f"{file} is no whole {file.suffix} file: " not in str(error)
    return found, True


@pytest.mark.parametrize("ending", ["", ".txt", *PACKERS, ".ZST"])
@pytest.mark.parametrize("text", [TEXT, b"a"])
def test_content_from_any_offset(tmp_path: Path, ending: str, text: bytes) -> None:
    file = tmp_path / f"a{ending}"
    file.write_bytes(PACKERS.get(ending.lower(), bytes)(text))
    assert is_packed(file) == (ending.lower() in PACKERS)
    for start in (0, 1, len(text) // 2, len(text), len(text) + 5):
        assert content_of(file, start) == (text[start:], True)


@pytest.mark.parametrize("ending", PACKERS)
def test_files_joined_are_read_to_the_end(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    file.write_bytes(b"".join(PACKERS[ending](part) for part in (b"one\n", b"", TEXT, b"end")))
    assert content_of(file) == (b"one\n" + TEXT + b"end", True)


@pytest.mark.parametrize("ending", PACKERS)
def test_a_cut_file_gives_what_it_has_whatever_the_sizes_of_reading(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    packed = PACKERS[ending](TEXT[:30_000]) + PACKERS[ending](TEXT[30_000:])
    for length in (len(packed) // 3, len(packed) * 3 // 4, len(packed) - 1):
        file.write_bytes(packed[:length])
        found, well = content_of(file)
        assert not well
        assert TEXT.startswith(found)
        assert length < len(packed) // 2 or len(found) >= 30_000
        assert content_of(file, piece=100) == (found, False)
        if found:
            assert content_of(file, start=len(found) // 2) == (found[len(found) // 2 :], False)


@pytest.mark.parametrize("ending", PACKERS)
def test_a_spoilt_file_gives_the_same_whatever_the_sizes_of_reading(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    packed = bytearray(PACKERS[ending](TEXT[:30_000]) + PACKERS[ending](TEXT[30_000:]))
    packed[len(packed) * 3 // 4] ^= 0x55
    file.write_bytes(packed)
    found, well = content_of(file)
    assert not well or found != TEXT  # Zstandard notices where the file holds a checksum
    assert content_of(file, piece=77) == (found, well)


@pytest.mark.parametrize("ending", PACKERS)
def test_what_is_not_packed_as_its_ending_says(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(b"plain text that nobody packed")
    assert content_of(tmp_path / f"a{ending}") == (b"", False)


def test_a_directory_or_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "missing", tmp_path / "missing.gz"):
        with pytest.raises(UserError, match="cannot be read: "), unpacked(file) as content:
            content.read()


@pytest.mark.parametrize("order", ["<", ">"])
def test_utf16_comes_as_utf8(tmp_path: Path, order: str) -> None:
    text = "첫 줄\r\n둘째 줄 😀"
    (tmp_path / "a.gz").write_bytes(gzip.compress(f"\ufeff{text}".encode("utf-16-le" if order == "<" else "utf-16-be")))
    with unpacked(tmp_path / "a.gz", 4, "utf-16") as content:
        assert content.read() == text.encode()[4:]


@pytest.mark.parametrize("raw", ["글자".encode("utf-16")[:-1], "글자".encode("utf-16-le")])
def test_utf16_that_is_not_whole_is_damaged(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(DamagedError, match="is no whole UTF-16 file"), unpacked(tmp_path / "a", 0, "utf-16") as content:
        content.read()


def test_large_content_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 1_000_000))
    with unpacked(tmp_path / "a.gz") as content:
        assert len(content.peek()) <= 1000
        assert len(content.read()) == 1_000_000
