"""KorNLI (https://github.com/kakaobrain/kor-nlu-datasets): a premise, a hypothesis, and what follows."""

from typing import Literal

from reforge.corpora.labelled.table import Column
from reforge.corpora.labelled.tsv import TabSeparated


class Kornli(TabSeparated):
    """Pairs of sentences: entailment, neutral or contradiction."""

    kind: Literal["kornli"] = "kornli"
    text: Column = "sentence1"
    pair: Column | None = "sentence2"
    label: Column | None = "gold_label"
