"""Parquet tables as labelled texts."""

from pathlib import Path

import datasets
import pytest

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.parquet import Parquet
from reforge.spec import UserError


def test_rows_of_a_table(tmp_path: Path) -> None:
    rows = [{"text": "가", "label": 1, "more": {"pair": "나"}}, {"text": None, "label": 0, "more": {"pair": "다"}}]
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
    examples = list(Parquet(path=tmp_path, pair="more.pair").read())
    assert examples == [TextExample("a.parquet: row 1", "가", "나", "1")]
    with pytest.raises(UserError, match=r"must have a column 'lable', has text, label, more; did you mean label\?"):
        list(Parquet(path=tmp_path, label="lable").read())
