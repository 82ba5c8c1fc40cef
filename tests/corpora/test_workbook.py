"""Rows of workbooks, whole or damaged."""

import re
import warnings
import zipfile
from io import BytesIO
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from reforge.corpora.streams import DamagedError
from reforge.corpora.workbook import sheets

ROWS: list[list[Any]] = [["ID", "원문"], [1, "하나"], [], [2.5, None, "끝"]]


def workbook(rows: list[list[Any]]) -> bytes:
    book = Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def patched(content: bytes, pattern: bytes, replacement: bytes) -> bytes:
    new = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(new, "w") as packed:
        for name in old.namelist():
            packed.writestr(name, re.sub(pattern, replacement, old.read(name)))
    return new.getvalue()


def read(content: bytes) -> list[tuple[Any, ...]]:
    return [tuple(row) for sheet in sheets(BytesIO(content), "a.xlsx") for row in sheet.rows]


def test_rows_come_as_they_stand() -> None:
    assert read(workbook(ROWS)) == [("ID", "원문"), (1, "하나"), (), (2.5, None, "끝")]


def test_the_size_that_a_sheet_claims_is_not_believed() -> None:
    for size in (b"A1", b"A1:XFD1048576"):
        content = patched(workbook(ROWS), rb'<dimension ref="[^"]*"', b'<dimension ref="' + size + b'"')
        assert read(content) == read(workbook(ROWS))


def test_no_warning_of_openpyxl_comes_through() -> None:
    content = patched(workbook(ROWS), rb"<cellStyles .*?</cellStyles>", b"")
    with pytest.warns(UserWarning, match="no default style"):
        load_workbook(BytesIO(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(content)) == 4


@pytest.mark.parametrize("size", [0, 100, 3000, -60])
def test_a_cut_workbook_is_named(size: int) -> None:
    with pytest.raises(DamagedError, match=r"a\.xlsx is no whole \.xlsx workbook"):
        read(workbook(ROWS * 50)[:size])


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(b"spreadsheetml.sheet.main", b"other"), (b"<sheets>", b"<sheet>")],
)
def test_a_workbook_whose_parts_do_not_fit_is_named(pattern: bytes, replacement: bytes) -> None:
    with pytest.raises(DamagedError, match=r"a\.xlsx is no whole \.xlsx workbook"):
        read(patched(workbook(ROWS), pattern, replacement))


def test_rows_before_the_damage_come_out() -> None:
    [sheet] = sheets(BytesIO(patched(workbook(ROWS), b"</row></sheetData>", b"</r></sheetData>")), "a.xlsx")
    assert [next(sheet.rows) for _ in range(2)] == [("ID", "원문"), (1, "하나")]
    with pytest.raises(DamagedError, match=r"a\.xlsx is no whole"):
        next(sheet.rows)
