"""KLUE-STS (https://github.com/KLUE-benchmark/KLUE): a list of objects in one JSON file.

Each has {"labels": {"label": 3.7, "real-label": 3.714285714285714, "binary-label": 1}}.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import model_validator

from reforge.corpora.labelled.jsonl import JsonTable
from reforge.corpora.records import Name
from reforge.spec import Problem

_BINARY: dict[str, Any] = {
    "label": "labels.binary-label",
    "score": False,
    "labels": {"0": "different", "1": "same"},
}


class KlueSts(JsonTable):
    """Pairs of sentences and the similarity of their meanings, from 0 to 5.

    binary: classes instead of scores, `different` below 3 and `same` from 3 on, where the set itself draws the line
    """

    kind: Literal["klue_sts"] = "klue_sts"
    text: Name = "sentence1"
    pair: Name | None = "sentence2"
    label: Name | None = "labels.real-label"
    id: Name | None = "guid"
    score: bool = True
    binary: bool = False

    @model_validator(mode="before")
    @classmethod
    def _binary_defaults(cls, options: Any) -> Any:
        return {**_BINARY, **options} if isinstance(options, dict) and options.get("binary") is True else options

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.binary and self.score:
            yield Problem(("score",), "must be false where binary is true", got=True)
