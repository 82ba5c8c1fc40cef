"""Parquet files: rows of row groups, in ranges, and what is bad."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reforge.corpora import Corpus, Document, Tally
from reforge.corpora.parquet import Parquet
from reforge.spec import UserError


def write(file: Path, rows: list[dict[str, object]], rows_per_group: int = 3) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=rows_per_group)
    return file


def read(path: Path, **options: object) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(Parquet(path=path, **options).documents(tally)), tally  # type: ignore[arg-type]


ROWS: list[dict[str, object]] = [
    {"id": number, "text": f"글 {number} {'가나다 ' * number}", "meta": {"note": f"주석 {number}"}}
    for number in range(11)
]


def test_texts_of_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [*ROWS, {"id": 11, "text": None, "meta": {"note": "끝"}}])
    documents, tally = read(tmp_path)
    assert documents[1] == Document("a.parquet: row 2", "글 1 가나다")
    assert len(documents) == 11
    assert tally.dropped == {"empty": 1}
    documents, _ = read(tmp_path, column=("meta.note", "text"))
    assert documents[1].text == "주석 1\n글 1 가나다"
    assert documents[-1] == Document("a.parquet: row 12", "끝")


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_row_groups_in_ranges(
    tmp_path: Path, compression: str, reads_the_same_in_ranges: Callable[[Corpus], None]
) -> None:
    for name in ("a", "b"):
        table = pa.Table.from_pylist(ROWS)
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=2, compression=compression)
    reads_the_same_in_ranges(Parquet(path=tmp_path, column=("text", "meta.note")))


def test_an_empty_table_has_no_documents(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert read(tmp_path)[0] == []


def test_a_missing_column_names_the_nearest(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]) -> None:
    write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(UserError, match=r"a\.parquet: must have a column 'txet', has id, .*; did you mean text\?"):
        read(tmp_path, column="txet")
    assert read(tmp_path, column="txet", on_bad_record="skip")[1].dropped == {"file without a column": 1}
    reads_the_same_in_ranges(Parquet(path=tmp_path, column="txet", on_bad_record="skip"))
    with pytest.raises(UserError, match=r"a\.parquet: row 1: must have a text 'meta.body'"):
        read(tmp_path, column="meta.body")
    with pytest.raises(UserError, match=r"row 1: must have a text 'id', it is of type int"):
        read(tmp_path, column="id")


@pytest.mark.parametrize("length", [0, 5, -1, 300])
def test_a_file_that_is_cut_is_said_or_counted_once(
    tmp_path: Path, length: int, reads_the_same_in_ranges: Callable[[Corpus], None]
) -> None:
    file = write(tmp_path / "a.parquet", ROWS)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match=r"a\.parquet is no whole \.parquet file: "):
        read(tmp_path)
    assert read(tmp_path, on_bad_record="skip")[1].dropped == {"rest of a damaged file": 1}
    reads_the_same_in_ranges(Parquet(path=tmp_path, on_bad_record="skip"))


def test_a_spoilt_row_group_leaves_the_others(
    tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]
) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=4, compression="zstd")
    raw = bytearray((tmp_path / "a.parquet").read_bytes())
    start = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(1).dictionary_page_offset
    raw[start : start + 40] = b"\xff" * 40
    (tmp_path / "a.parquet").write_bytes(raw)
    with pytest.raises(UserError, match=r"a\.parquet is no whole \.parquet file: "):
        read(tmp_path)
    documents, tally = read(tmp_path, on_bad_record="skip")
    assert [document.name for document in documents] == [f"a.parquet: row {row}" for row in range(5, 12)]
    assert tally.dropped == {"rest of a damaged row group": 1}
    reads_the_same_in_ranges(Parquet(path=tmp_path, on_bad_record="skip"))


def test_strings_that_are_not_utf8_are_damage(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet is no whole \.parquet file: 'utf-8' codec can't decode"):
        read(tmp_path)
    assert read(tmp_path, on_bad_record="skip")[1].dropped == {"rest of a damaged row group": 1}
