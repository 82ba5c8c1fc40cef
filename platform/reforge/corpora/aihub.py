"""AI Hub's Korean-English parallel corpora (aihub.or.kr, dataSetSn 126 and later): .xlsx workbooks and JSON.

workbook   seven sets of columns, of which 원문 (Korean) and 번역문 (English) are read, wherever they stand
JSON       {"data": [{"ko": ..., "en": ..., "mt": ...}]}   or   [{"sid": ..., "한국어": ..., "영어": ...}]
"""

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from reforge.corpora.archives import ArchivedCorpus, Source, composed
from reforge.corpora.corpus import Document
from reforge.corpora.json_stream import BrokenJsonError, NoListError, elements
from reforge.corpora.reader import Reader
from reforge.corpora.tally import Tally
from reforge.corpora.workbook import Row, sheets

Side = Literal["ko", "en"]
_COLUMNS = ("원문", "번역문")
# `ko` and `en` are what people checked; `*_original` is the source as it was collected, `mt` a machine's translation.
_KEYS: dict[Side, tuple[str, ...]] = {
    "ko": ("ko", "ko_original", "한국어"),
    "en": ("en", "en_original", "영어"),
}
_ERRORS = frozenset({"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A"})
_ESCAPE = re.compile(r"_x[0-9A-Fa-f]{4}_")


class Pair(NamedTuple):
    """A sentence and its translation as the file has them, and where they stand in it."""

    place: str
    ko: Any
    en: Any


class Aihub(ArchivedCorpus):
    """Sentences of AI Hub's parallel corpora, from workbooks, JSON files, and archives that hold them.

    side: `ko` and `en` take one language; `both` gives two documents a pair, Korean first
    Documents of the same pair, in one file or in two, have the same key.
    """

    kind: Literal["aihub"] = "aihub"
    side: Literal["ko", "en", "both"] = "both"
    endings = (".xlsx", ".json", ".zip")

    @property
    def keyed(self) -> bool:
        return True

    def read_source(self, source: Source, reader: Reader) -> Iterator[Document]:
        read = _json_pairs if source.name.lower().endswith(".json") else _workbook_pairs
        for pair in read(source, reader):
            yield from self._documents(pair, f"{source.name}: {pair.place}", reader.tally)

    def _documents(self, pair: Pair, name: str, tally: Tally) -> Iterator[Document]:
        texts: dict[Side, str] = {"ko": _clean(pair.ko, tally), "en": _clean(pair.en, tally)}
        if not all(texts.values()):
            tally.drop(_why_dropped(pair, texts))
            return
        # JSON can spell half a surrogate pair, which is no text but no reason to stop.
        pair_bytes = "\0".join(texts.values()).encode(errors="surrogatepass")
        digest = hashlib.blake2b(pair_bytes, digest_size=8).hexdigest()
        for side, text in texts.items():
            if self.side in (side, "both"):
                tally.keep(text)
                yield Document(f"{name}, {side}", text, key=f"{digest}-{side}")


def _clean(value: Any, tally: Tally) -> str:
    """A cell's text on one line, "" for what is no text."""
    if not isinstance(value, str) or _has_error(value):
        return ""
    text = composed(value)
    if "_x" in text and _ESCAPE.search(text):
        from openpyxl.utils.escape import unescape  # every process of a job would wait for the library otherwise

        text = unescape(text)
        tally.fix("character escaped by Excel")
    stripped = text.strip()
    tally.fix("white space around a text", stripped not in ("", text))
    lines = stripped.splitlines()
    tally.fix("line break within a text", len(lines) > 1)
    return " ".join(line for part in lines if (line := part.strip())) if len(lines) > 1 else stripped


def _why_dropped(pair: Pair, texts: dict[Side, str]) -> str:
    if any(value is not None and not isinstance(value, str) for value in (pair.ko, pair.en)):
        return "number or date in place of text"
    if _has_error(pair.ko) or _has_error(pair.en):
        return "Excel's error in place of text"
    return "empty on one side" if any(texts.values()) else "empty row"


def _has_error(value: Any) -> bool:
    return isinstance(value, str) and value.strip() in _ERRORS


def _workbook_pairs(source: Source, reader: Reader) -> Iterator[Pair]:
    headers: list[Row] = []
    num_read = 0
    for sheet in sheets(source.content, source.place):
        rows = enumerate(sheet.rows, start=1)
        header: Row = next((row for _, row in rows if any(cell is not None for cell in row)), ())
        names = tuple(composed(cell).strip() if isinstance(cell, str) else cell for cell in header)
        if all(column in names for column in _COLUMNS):
            num_read += 1
            yield from _sheet_pairs(rows, names)
        elif names:
            headers.append(names)
    if not num_read:
        reader.bad("workbook without 원문 and 번역문", f"{source.place}: {_missing(headers)}", placed=True)
    elif headers:
        reader.tally.drop("sheet without 원문 and 번역문", len(headers))


def _sheet_pairs(rows: Iterable[tuple[int, Row]], names: Row) -> Iterator[Pair]:
    ko, en = (names.index(column) for column in _COLUMNS)
    for number, row in rows:
        yield Pair(f"row {number}", _cell(row, ko), _cell(row, en))


def _cell(row: Row, column: int) -> Any:
    return row[column] if column < len(row) else None


def _missing(headers: list[Row]) -> str:
    message = f"must have the columns {' and '.join(_COLUMNS)} in a sheet's first row"
    if not headers:
        return f"{message}, has no rows"
    found = [str(name) for name in headers[0] if name is not None]
    message += f", has {', '.join(found)}"
    for column in _COLUMNS:
        if column not in found and (near := difflib.get_close_matches(column, found, n=1)):
            message += f"; is {near[0]!r} meant to be {column}?"
    return message


def _json_pairs(source: Source, reader: Reader) -> Iterator[Pair]:
    try:
        for number, record in enumerate(elements(source.content, "data", source.place), start=1):
            if isinstance(record, dict) and all(not record.keys().isdisjoint(keys) for keys in _KEYS.values()):
                yield Pair(f"record {number}", _first(record, "ko"), _first(record, "en"))
            else:
                reader.bad("record without both languages", f"{source.place}: {_not_both(number, record)}", placed=True)
    except BrokenJsonError as error:
        reader.bad("rest of a damaged file", str(error), placed=True)
    except NoListError as error:
        reader.bad("file without a list of records", str(error), placed=True)


def _first(record: dict[str, Any], side: Side) -> Any:
    """The first of a side's keys that has a text, or else whatever the record has in its place."""
    found = None
    for key in _KEYS[side]:
        value = record.get(key)
        if isinstance(value, str) and value.strip():
            return value
        found = value if found is None else found
    return found


def _not_both(number: int, record: Any) -> str:
    must = "must have a text in each language (" + ", ".join("/".join(keys) for keys in _KEYS.values()) + ")"
    got = ", ".join(record) or "nothing" if isinstance(record, dict) else f"a {type(record).__name__}"
    return f"record {number}: {must}, has {got}"
