"""모두의 말뭉치, the corpora of the National Institute of Korean Language (NIKL): one JSON object a file.

newspaper, written, web    {"document": [{"id": ..., "paragraph": [{"form": ...}]}]}
spoken, messenger          {"document": [{"id": ..., "utterance": [{"form": ..., "original_form": ...}]}]}

Ids and file names begin with the set: NWRW1900000010.json holds newspapers, SDRW2000000001.json speech.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field

from reforge.corpora.archives import ArchivedCorpus, Source
from reforge.corpora.corpus import Document
from reforge.corpora.json_stream import BrokenJsonError, NoListError, elements
from reforge.corpora.reader import OnBadRecord, Reader
from reforge.corpora.tally import Tally

SetName = Literal["newspaper", "written", "web", "spoken", "messenger"]
_SETS: dict[str, SetName] = {"N": "newspaper", "W": "written", "E": "web", "S": "spoken", "M": "messenger"}
_ID = re.compile(r"([NWESM])[A-Z]*RW")


class Nikl(ArchivedCorpus):
    """Articles, texts and conversations, with a paragraph or an utterance a line.

    on_bad_record: `skip` leaves out the whole of a file that is no JSON and tells it in the report, `fail` stops there
    sets: only these of newspaper, written, web, spoken and messenger (null: all)
    headlines: keep the headline of a newspaper's article, which is its first paragraph
    utterances: `form` is the transcript in standard spelling, `original_form` the words as they were said or typed
    """

    kind: Literal["nikl"] = "nikl"
    on_bad_record: OnBadRecord = "skip"
    sets: tuple[SetName, ...] | None = Field(default=None, min_length=1)
    headlines: bool = True
    utterances: Literal["form", "original_form"] = "form"
    endings = (".json", ".zip")

    def read_source(self, source: Source, reader: Reader) -> Iterator[Document]:
        named = _set_of(PurePosixPath(source.name).name)
        if not self._wants(named):
            reader.tally.drop("file of another set")
            return
        tally = Tally()
        try:
            # All before any, so that a file that breaks off gives nothing; its texts are much smaller than its JSON.
            documents = list(self._documents(source, named, tally))
        except BrokenJsonError as error:
            reader.bad("file that is no JSON", str(error), placed=True)
        except NoListError:
            reader.tally.drop("file of another layout")
        else:
            reader.tally.add(tally)
            yield from documents

    def _documents(self, source: Source, named: SetName | None, tally: Tally) -> Iterator[Document]:
        for record in elements(source.content, "document", source.place):
            layout = next((key for key in ("paragraph", "utterance") if isinstance(_get(record, key), list)), None)
            if layout is None:
                tally.drop("document of another layout")
                continue
            name = str(_get(record, "id"))
            default: SetName = "written" if layout == "paragraph" else "spoken"
            of = named or _set_of(name) or default
            if not self._wants(of):
                tally.drop("document of another set")
            elif text := "\n".join(self._lines(record[layout], layout, of, tally)):
                tally.keep(text)
                yield Document(f"{source.name}: {name}", text)
            else:
                tally.drop("empty")

    def _lines(self, entries: list[Any], layout: str, of: SetName, tally: Tally) -> Iterator[str]:
        column = self.utterances if layout == "utterance" else "form"
        for entry in entries[0 if self.headlines or of != "newspaper" else 1 :]:
            value = _get(entry, column)
            if isinstance(value, str) and (line := unicodedata.normalize("NFC", value).strip()):
                yield line
            else:
                tally.fix(f"{layout} without text left out")

    def _wants(self, of: SetName | None) -> bool:
        return self.sets is None or of is None or of in self.sets


def _set_of(name: str) -> SetName | None:
    match = _ID.match(name)
    return _SETS[match[1]] if match else None


def _get(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, dict) else None
