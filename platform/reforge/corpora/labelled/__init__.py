"""Labelled sets in: texts with classes or scores, tagged texts, questions; whatever the layout of their files.

A new one is one file with a `LabelledOptions` class and one line in `LABELLED`.
"""

from typing import TYPE_CHECKING

from reforge.corpora.labelled.conll import Conll
from reforge.corpora.labelled.csv import Csv
from reforge.corpora.labelled.example import Answer, Example, QuestionExample, TaggedExample, TextExample
from reforge.corpora.labelled.huggingface import Huggingface
from reforge.corpora.labelled.json_spans import JsonSpans
from reforge.corpora.labelled.jsonl import Jsonl
from reforge.corpora.labelled.klue_ner import KlueNer
from reforge.corpora.labelled.klue_nli import KlueNli
from reforge.corpora.labelled.klue_sts import KlueSts
from reforge.corpora.labelled.kornli import Kornli
from reforge.corpora.labelled.korsts import Korsts
from reforge.corpora.labelled.naver_ner import NaverNer
from reforge.corpora.labelled.nsmc import Nsmc
from reforge.corpora.labelled.parquet import Parquet
from reforge.corpora.labelled.paws import Paws
from reforge.corpora.labelled.python_docs import PythonDocs
from reforge.corpora.labelled.question_pair import QuestionPair
from reforge.corpora.labelled.reader import Gives, LabelledFiles, LabelledOptions
from reforge.corpora.labelled.squad import Squad
from reforge.corpora.labelled.tsv import Tsv
from reforge.spec import one_of

LABELLED: dict[str, type[LabelledOptions]] = {
    "conll": Conll,
    "csv": Csv,
    "huggingface": Huggingface,
    "json_spans": JsonSpans,
    "jsonl": Jsonl,
    "klue_ner": KlueNer,
    "klue_nli": KlueNli,
    "klue_sts": KlueSts,
    "kornli": Kornli,
    "korsts": Korsts,
    "naver_ner": NaverNer,
    "nsmc": Nsmc,
    "parquet": Parquet,
    "paws": Paws,
    "python_docs": PythonDocs,
    "question_pair": QuestionPair,
    "squad": Squad,
    "tsv": Tsv,
}

if TYPE_CHECKING:
    AnyLabelled = LabelledOptions
else:
    AnyLabelled = one_of(LABELLED)

__all__ = [
    "LABELLED",
    "Answer",
    "AnyLabelled",
    "Example",
    "Gives",
    "LabelledFiles",
    "LabelledOptions",
    "QuestionExample",
    "TaggedExample",
    "TextExample",
]
