"""Which form a file given by itself is in, for sets whose own examples come from no file."""

from pathlib import Path
from typing import Any

from reforge.corpora.labelled.csv import Csv
from reforge.corpora.labelled.jsonl import Jsonl
from reforge.corpora.labelled.parquet import Parquet
from reforge.corpora.labelled.reader import LabelledFiles, unpacked_name
from reforge.corpora.labelled.table import Table
from reforge.corpora.labelled.tsv import Tsv
from reforge.corpora.reader import OnBadRecord


def table_in_file(path: Path, like: Table | None = None, on_bad_record: OnBadRecord = "fail") -> LabelledFiles:
    """The table at `path`, read by the ending of its name: JSON, CSV, parquet, else TSV; columns as those of `like`."""
    options: dict[str, Any] = {} if like is None else {name: getattr(like, name) for name in Table.model_fields}
    options = {**options, "path": path, "on_bad_record": on_bad_record}
    options.pop("kind", None)
    name = unpacked_name(path)
    if name.endswith(Jsonl.endings):
        return Jsonl(**options)
    if name.endswith(".csv"):
        return Csv(**options)
    if name.endswith(Parquet.endings):
        return Parquet(**options)
    return Tsv(**options)
