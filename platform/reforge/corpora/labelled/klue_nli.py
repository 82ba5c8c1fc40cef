"""KLUE-NLI (https://github.com/KLUE-benchmark/KLUE): a list of objects in one JSON file."""

from typing import Literal

from reforge.corpora.labelled.jsonl import JsonTable
from reforge.corpora.records import Name


class KlueNli(JsonTable):
    """Pairs of sentences: entailment, neutral or contradiction."""

    kind: Literal["klue_nli"] = "klue_nli"
    text: Name = "premise"
    pair: Name | None = "hypothesis"
    label: Name | None = "gold_label"
    id: Name | None = "guid"
