"""JSON: one object a line, or a whole file that is a list of objects, or an object with such a list in it.

{"text": "a", "label": 1}        [{"text": "a", "label": 1},        {"version": 1, "data": [{"text": "a", "label": 1},
{"text": "b", "label": 0}         {"text": "b", "label": 0}]                                {"text": "b", "label": 0}]}
"""

from collections.abc import Iterator
from typing import Any, Literal

from reforge.corpora.encoding import Encoding
from reforge.corpora.labelled.example import TextExample
from reforge.corpora.labelled.json_file import MISSING, list_at, whole_value
from reforge.corpora.labelled.reader import LabelledFiles
from reforge.corpora.labelled.records import Record, RecordTable
from reforge.corpora.reader import Reader
from reforge.corpora.records import Name, Row, json_records
from reforge.spec import UserError


class JsonTable(RecordTable, LabelledFiles):
    """Labelled texts in JSON. Examples of a file that is one list are named by their number in it, from 1 on.

    records: where the list of a file that is one object stands in it, `data`; null: the file is JSON lines or a list
    encoding: of all files; cp949 reads EUC-KR as well
    """

    records: Name | None = None
    encoding: Encoding = "utf-8"
    endings = (".jsonl", ".ndjson", ".json")

    def read_file(self, reader: Reader, labelled: bool) -> Iterator[TextExample]:
        first = reader.first_line(self.encoding)
        if first == "{" and self.records is None:
            raise UserError(f"{reader.file} is one object: name with `records` the list in it")
        is_whole = self.records is not None or first.startswith("[")
        records = self._listed(reader) if is_whole else self._lines(reader)
        return self.examples(self.cells(records, labelled), labelled, reader.tally)

    def _lines(self, reader: Reader) -> Iterator[Record]:
        for record in json_records(reader, self.encoding):
            yield Record(f"{reader.name}:{reader.line_number()}", reader, record)

    def _listed(self, reader: Reader) -> Iterator[Record]:
        for number, record in enumerate(self._elements(reader), 1):
            place = Row(reader, number)
            if isinstance(record, dict):
                yield Record(f"{reader.name}: row {number}", place, record)
            else:
                place.bad("element that is no JSON object", f"must be an object, got {type(record).__name__}")

    def _elements(self, reader: Reader) -> list[Any]:
        value = whole_value(reader, self.encoding)
        if isinstance(value, list) or value is MISSING:
            return value if isinstance(value, list) else []
        return list_at(value, self.records or "", reader)


class Jsonl(JsonTable):
    """Any JSON lines, or a file that is a list of objects."""

    kind: Literal["jsonl"] = "jsonl"
