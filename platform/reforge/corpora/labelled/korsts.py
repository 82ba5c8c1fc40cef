"""KorSTS (https://github.com/kakaobrain/kor-nlu-datasets): how similar two sentences are, from 0 to 5."""

from typing import Literal

from reforge.corpora.labelled.table import Column
from reforge.corpora.labelled.tsv import TabSeparated


class Korsts(TabSeparated):
    """Pairs of sentences and the similarity of their meanings."""

    kind: Literal["korsts"] = "korsts"
    text: Column = "sentence1"
    pair: Column | None = "sentence2"
    label: Column | None = "score"
    score: bool = True
