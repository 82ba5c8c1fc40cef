"""PAWS-X (https://github.com/google-research-datasets/paws): pairs of many words in common."""

from typing import Literal

from pydantic import Field

from reforge.corpora.labelled.table import Column
from reforge.corpora.labelled.tsv import TabSeparated
from reforge.corpora.records import Name


class Paws(TabSeparated):
    """Pairs of sentences: different, or a paraphrase."""

    kind: Literal["paws"] = "paws"
    text: Column = "sentence1"
    pair: Column | None = "sentence2"
    labels: dict[str, Name | None] = Field(default={"0": "different", "1": "paraphrase"})
