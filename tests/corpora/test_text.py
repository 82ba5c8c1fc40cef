"""Plain text: what is a document, in ranges, packed, and in other encodings."""

import bz2
import gzip
import lzma
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from reforge.corpora import Corpus, Tally, text
from reforge.corpora.text import Text
from reforge.spec import UserError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
POEM = "\n\n첫 줄 😀\n둘째 줄\r\n\r\n \t\n셋째\n\n\n넷째 줄\n다섯째"


def read(path: Path, **options: object) -> tuple[list[str], Tally]:
    tally = Tally()
    return [document.text for document in Text(path=path, **options).documents(tally)], tally  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("documents_by", ["line", "blank_line"])
@pytest.mark.parametrize("content", ["", "\ufeff", POEM, "\ufeff" + POEM + "\r\n", "\n" * 20, "끝이 없는 줄"])
def test_documents_in_ranges(
    tmp_path: Path,
    ending: str,
    documents_by: str,
    content: str,
    reads_the_same_in_ranges: Callable[[Corpus], None],
) -> None:
    (tmp_path / f"a.txt{ending}").write_bytes(PACKERS[ending](content.encode()))
    reads_the_same_in_ranges(Text(path=tmp_path, documents_by=documents_by))  # type: ignore[arg-type]


def test_documents_of_a_damaged_file_in_ranges(
    tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]
) -> None:
    content = "".join(f"글의 {number}번째 줄\n" + "\n" * (number % 3 == 0) for number in range(200))
    for ending in (".gz", ".bz2", ".xz", ".zst"):
        packed = PACKERS[ending](content.encode()) + PACKERS[ending](content.encode())
        (tmp_path / f"a{ending}").write_bytes(packed[:-40])
    for documents_by in ("line", "blank_line"):
        corpus = Text(path=tmp_path, documents_by=documents_by, on_bad_record="skip")  # type: ignore[arg-type]
        tally = Tally()
        assert len(list(corpus.documents(tally))) > 4 * 60
        assert tally.dropped["rest of a damaged file"] == 4
        reads_the_same_in_ranges(corpus)


def test_the_last_lines_of_a_poem(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(POEM.encode())
    assert read(tmp_path, documents_by="line")[0] == ["첫 줄 😀", "둘째 줄", "셋째", "넷째 줄", "다섯째"]
    assert read(tmp_path, documents_by="blank_line")[0] == ["첫 줄 😀\n둘째 줄", "셋째", "넷째 줄\n다섯째"]
    [whole] = read(tmp_path)[0]
    assert whole == POEM.replace("\r", "").strip()


@pytest.mark.parametrize("encoding", ["cp949", "utf-16"])
def test_files_in_another_encoding(
    tmp_path: Path, encoding: str, reads_the_same_in_ranges: Callable[[Corpus], None]
) -> None:
    (tmp_path / "a").write_bytes(POEM.replace(" 😀", "").encode(encoding))
    corpus = Text(path=tmp_path, documents_by="line", encoding=encoding)  # type: ignore[arg-type]
    assert read(tmp_path, documents_by="line", encoding=encoding)[0][:2] == ["첫 줄", "둘째 줄"]
    assert corpus.cuttable(corpus.whole()[0]) == (encoding == "cp949")
    if encoding == "cp949":
        reads_the_same_in_ranges(corpus)


def test_encodings_may_be_mixed_where_bad_records_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("좋은 글\n")
    (tmp_path / "b").write_bytes("첫 줄은 완성형\nplain\n\nlast\n".encode("cp949"))
    (tmp_path / "c").write_bytes("두 바이트로 쓴 글\nplain\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"b is not UTF-8: .* It reads as CP949"):
        read(tmp_path)
    texts, tally = read(tmp_path, on_bad_record="skip")
    assert texts == ["좋은 글"]
    assert tally.dropped["document with lines that cannot be read"] == 1
    assert {"line that is not UTF-8", "line with NUL bytes"} <= set(tally.dropped)
    texts, _ = read(tmp_path, on_bad_record="skip", documents_by="blank_line")
    assert texts == ["좋은 글", "last"]


@pytest.mark.parametrize("documents_by", ["file", "blank_line"])
def test_a_document_beyond_the_limit_does_not_fill_the_memory(
    tmp_path: Path, documents_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_DOCUMENT_CHARACTERS", 20)
    (tmp_path / "a").write_text("짧은 글\n" * 10 + "\n끝\n")
    with pytest.raises(UserError, match=r"a:6: a document of more than .* set documents_by to blank_line or line"):
        read(tmp_path, documents_by=documents_by)
    texts, tally = read(tmp_path, documents_by=documents_by, on_bad_record="skip")
    assert texts == ([] if documents_by == "file" else ["끝"])
    assert tally.dropped == {"document too long": 1}


def test_texts_are_in_normal_form(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "한글과 글자\n둘째")
    (tmp_path / "a").write_text(decomposed)
    assert read(tmp_path)[0] == ["한글과 글자\n둘째"]
    assert read(tmp_path, documents_by="line")[0] == ["한글과 글자", "둘째"]
