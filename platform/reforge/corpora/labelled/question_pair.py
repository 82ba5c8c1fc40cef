"""Question Pair (https://github.com/songys/Question_pair): whether two questions ask the same.

Two layouts: train.txt, validation.txt and test.txt are tab-separated, kor_pair_train.csv and kor_Pair_test.csv are CSV.
"""

from typing import Literal

from pydantic import Field

from reforge.corpora.csv import parsed_rows, split_rows
from reforge.corpora.labelled.delimited import Delimited, Rows
from reforge.corpora.labelled.table import Column
from reforge.corpora.reader import Reader
from reforge.corpora.records import Name


class QuestionPair(Delimited):
    """Pairs of questions: same or different."""

    kind: Literal["question_pair"] = "question_pair"
    text: Column = "question1"
    pair: Column | None = "question2"
    label: Column | None = "is_duplicate"
    # In spite of the column's name, 0 is the same question and 1 another one.
    labels: dict[str, Name | None] = Field(default={"0": "same", "1": "different"})
    endings = (".txt",)

    def rows(self, reader: Reader) -> Rows:
        if ".csv" in reader.name.lower():
            return parsed_rows(reader, ",", self.encoding, "take kind: tsv")
        return split_rows(reader, "\t", self.encoding)
