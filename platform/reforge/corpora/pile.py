"""The Pile's records (Gao et al. 2020): JSON lines in Zstandard files.

{"text": ..., "meta": {"pile_set_name": ...}}
"""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import zstandard

from reforge.corpora.corpus import Document
from reforge.corpora.files import FileCorpus
from reforge.corpora.tally import Tally
from reforge.spec import UserError

_READ_BYTES = 1 << 20


class Pile(FileCorpus):
    """The texts of `.jsonl.zst` files, streamed. `sets`: only records of these sets, by `pile_set_name` (null: all)."""

    kind: Literal["pile"] = "pile"
    sets: tuple[str, ...] | None = None

    def documents(self, tally: Tally) -> Iterator[Document]:
        for name, file in self.named_files(tally):
            for number, line in enumerate(_lines(file), start=1):
                record = _record(line, f"{file}:{number}")
                if self.sets is not None and record["meta"].get("pile_set_name") not in self.sets:
                    tally.drop("of another set")
                elif text := unicodedata.normalize("NFC", record["text"]).strip():
                    tally.keep(text)
                    yield Document(f"{name}: line {number}", text)
                else:
                    tally.drop("empty")


def _lines(file: Path) -> Iterator[str]:
    begun = b""
    try:
        for part in _unpacked(file):
            *lines, begun = (begun + part).split(b"\n")
            yield from (line.decode() for line in lines)
        if begun:
            yield begun.decode()
    except zstandard.ZstdError as error:
        raise UserError(f"{file} is no whole Zstandard file: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8: {error.reason}") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def _unpacked(file: Path) -> Iterator[bytes]:
    """The content of a file of one or several frames; zstandard's own reader takes a cut frame for a whole one."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    with file.open("rb") as handle:
        while packed := handle.read(_READ_BYTES):
            while packed:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(packed)
                packed = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise UserError(f"{file} is no whole Zstandard file: it ends in the middle")


def _record(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is no JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise UserError(f'{place} is no record of the Pile: it has no "text"')
    record.setdefault("meta", {})
    return record
