"""Raw text in: each corpus streams clean documents and counts what it dropped and mended.

A new corpus is one file with a `Corpus` class and one line in `CORPORA`.
"""

from typing import TYPE_CHECKING

from reforge.corpora.aihub import Aihub
from reforge.corpora.corpus import Corpus, Document, Extent, Slice
from reforge.corpora.csv import Csv
from reforge.corpora.huggingface import Huggingface
from reforge.corpora.jsonl import Jsonl
from reforge.corpora.kowiki import Kowiki
from reforge.corpora.kowikitext import Kowikitext
from reforge.corpora.mixture import Mixture, complete
from reforge.corpora.namuwikitext import Namuwikitext
from reforge.corpora.nikl import Nikl
from reforge.corpora.parquet import Parquet
from reforge.corpora.petitions import Petitions
from reforge.corpora.pile import Pile
from reforge.corpora.python_docs import PythonDocs
from reforge.corpora.tally import Tally
from reforge.corpora.text import Text
from reforge.corpora.wikipedia import Wikipedia
from reforge.spec import one_of

CORPORA: dict[str, type[Corpus]] = {
    "aihub": Aihub,
    "csv": Csv,
    "huggingface": Huggingface,
    "jsonl": Jsonl,
    "kowiki": Kowiki,
    "kowikitext": Kowikitext,
    "mixture": Mixture,
    "namuwikitext": Namuwikitext,
    "nikl": Nikl,
    "parquet": Parquet,
    "petitions": Petitions,
    "pile": Pile,
    "python_docs": PythonDocs,
    "text": Text,
    "wikipedia": Wikipedia,
}
complete(CORPORA)

if TYPE_CHECKING:
    AnyCorpus = Corpus
else:
    AnyCorpus = one_of(CORPORA)

__all__ = ["CORPORA", "AnyCorpus", "Corpus", "Document", "Extent", "Slice", "Tally"]
