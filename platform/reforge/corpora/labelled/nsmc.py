"""Naver's movie reviews by their sentiment (https://github.com/e9t/nsmc): id, document, label."""

from typing import Literal

from pydantic import Field

from reforge.corpora.labelled.table import Column
from reforge.corpora.labelled.tsv import TabSeparated
from reforge.corpora.records import Name


class Nsmc(TabSeparated):
    """Reviews, negative or positive. A few have no text."""

    kind: Literal["nsmc"] = "nsmc"
    text: Column = "document"
    labels: dict[str, Name | None] = Field(default={"0": "negative", "1": "positive"})
