"""The Pile's records (Gao et al. 2020, arXiv:2101.00027): JSON lines, most often in Zstandard files, or Parquet.

{"text": ..., "meta": {"pile_set_name": ...}}
"""

import difflib
import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.parquet import parquet_records
from reforge.corpora.reader import Reader
from reforge.corpora.records import BadPlace, Name, clean, json_records, text_of, value_at
from reforge.corpora.tally import Tally
from reforge.spec import Problem

# Table 1 of the paper, spelt as in the files.
SUBSETS = (
    "ArXiv", "BookCorpus2", "Books3", "DM Mathematics", "Enron Emails", "EuroParl", "FreeLaw", "Github",
    "Gutenberg (PG-19)", "HackerNews", "NIH ExPorter", "OpenSubtitles", "OpenWebText2", "PhilPapers", "Pile-CC",
    "PubMed Abstracts", "PubMed Central", "StackExchange", "USPTO Backgrounds", "Ubuntu IRC", "Wikipedia (en)",
    "YoutubeSubtitles",
)  # fmt: skip
_NAME = "meta.pile_set_name"
_LOOKED_AT = 1000
_PARQUET = ".parquet"


class Pile(FileCorpus):
    """The texts of the Pile's files, and of files that have its form.

    subsets: only records of these, by `pile_set_name`; null takes all. A mapping of names to weights says how often a
        subset is seen in an epoch: {Books3: 2.0, Pile-CC: 0.5}. A name that is none of the Pile's 22 must occur among
        the first thousand records
    """

    kind: Literal["pile"] = "pile"
    subsets: (
        Annotated[tuple[Name, ...], Field(min_length=1)]
        | Annotated[dict[Name, Annotated[float, Field(gt=0)]], Field(min_length=1)]
        | None
    ) = None
    reads_fast = True
    endings = (".jsonl", ".jsonl.gz", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst", _PARQUET)

    def problems(self) -> Iterator[Problem]:
        found = list(super().problems())
        yield from found
        foreign = [name for name in self.subsets or () if name not in SUBSETS]
        if foreign and not found:
            yield from self._unknown_subsets(foreign)

    def identity(self) -> dict[str, object]:
        # Weights decide the order of what is prepared, not what it is.
        subsets = None if self.subsets is None else sorted(self.subsets)
        return {**super().identity(), "subsets": subsets, "grouped": bool(self.weights())}

    def weights(self) -> Mapping[str, float]:
        return self.subsets if isinstance(self.subsets, dict) else {}

    def cuttable(self, whole: Slice) -> bool:
        return True

    def read_file(self, reader: Reader) -> Iterator[Document]:
        tally, grouped = reader.tally, bool(self.weights())
        columns = ("text",) if self.subsets is None else ("text", "meta")
        for record, place, name in _records(reader, columns):
            subset = ""
            if self.subsets is not None:
                subset = value_at(record, _NAME)
                if subset not in self.subsets:
                    _leave_out(subset, place, reader)
                    continue
            found = text_of(record, "text", place)
            if found is None:
                continue
            if text := clean(found):
                tally.keep(text)
                yield Document(f"{reader.name}: {name}", text, group=subset if grouped else "")
            else:
                tally.drop("empty")

    def _unknown_subsets(self, foreign: list[str]) -> Iterator[Problem]:
        known = dict.fromkeys([*SUBSETS, *self._first_names()])
        for name in foreign:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                rule = "must be one of the Pile's subsets, or a pile_set_name among the first records"
                key = name if isinstance(self.subsets, dict) else list(self.subsets or ()).index(name)
                yield Problem(("subsets", key), rule, got=name, nearest=near[0] if near else None)

    def _first_names(self) -> Iterator[str]:
        reader = Reader(self.files()[0], "", Tally(), on_bad_record="skip")
        names = (value_at(record, _NAME) for record, _, _ in itertools.islice(_records(reader, ("meta",)), _LOOKED_AT))
        return (name for name in names if isinstance(name, str))


def _records(reader: Reader, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], BadPlace, str]]:
    """Each record with where it is, for messages, and the end of its document's name."""
    if reader.file.name.lower().endswith(_PARQUET):
        yield from ((record, row, f"row {row.number}") for row, record in parquet_records(reader, columns))
    else:
        yield from ((record, reader, f"byte {reader.offset}") for record in json_records(reader))


def _leave_out(subset: object, place: BadPlace, reader: Reader) -> None:
    if isinstance(subset, str):
        reader.tally.drop("of another subset")
    else:
        place.bad(f"record without {_NAME}", f"must have a {_NAME}, which subsets are chosen by")
