"""Which form a file given by itself is in, for sets whose own examples come from no file."""

from pathlib import Path
from typing import Any

from reforge.corpora.labelled.csv import Csv
from reforge.corpora.labelled.jsonl import Jsonl
from reforge.corpora.labelled.parquet import Parquet
from reforge.corpora.labelled.reader import LabelledFiles, unpacked_name
from reforge.corpora.labelled.table import Table
from reforge.corpora.labelled.tsv import Tsv


def table_in_file(path: Path, like: Table | None = None) -> LabelledFiles:
    """The table at `path`, read by the ending of its name: JSON, CSV, parquet, else TSV; columns as those of `like`."""
    options: dict[str, Any] = {} if like is None else {name: getattr(like, name) for name in Table.model_fields}
    options.pop("kind", None)
    name = unpacked_name(path)
    if name.endswith(Jsonl.endings):
        return Jsonl(path=path, **options)
    if name.endswith(".csv"):
        return Csv(path=path, **options)
    if name.endswith(Parquet.endings):
        return Parquet(path=path, **options)
    return Tsv(path=path, **options)
