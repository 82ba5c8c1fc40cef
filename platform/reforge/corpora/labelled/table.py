"""Rows with named columns as labelled texts: which column is what, what a label is called, what is left out.

row --pick--> Cells (text, pair, label, id) --clean, rename--> TextExample, or a reason in the tally
"""

import math
from abc import ABC
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from reforge.corpora.labelled.example import TextExample
from reforge.corpora.labelled.reader import Gives, LabelledOptions
from reforge.corpora.records import BadPlace, Name, clean, nearest
from reforge.corpora.tally import Tally
from reforge.spec import Problem, UserError

OnEmpty = Literal["skip", "keep", "fail"]
Column = Name | Annotated[int, Field(ge=1)]


class Cells(NamedTuple):
    """What a row has for an example; None where the set has no such column.

    key: where the row stands, "train.tsv:12"
    """

    key: str
    place: BadPlace
    text: Any
    pair: Any
    label: Any
    id: Any


class Columns(NamedTuple):
    """The column of each of an example's parts; None where there is none."""

    text: Column
    pair: Column | None
    label: Column | None
    id: Column | None


class Table(LabelledOptions, ABC):
    """Labelled texts in columns. Texts are brought into Unicode's normal form NFC and lose the space at their ends.

    text: column of the text
    pair: column of the second text; null: single texts
    label: column of the class or score; null where the set has none
    id: column that names the examples; null, or where a file lacks it: they are named by file and line
    labels: other names for classes, {"0": negative, "1": positive}. Two classes with one name become one; null leaves a
        class's examples out; classes that are not listed keep their names
    score: labels are numbers, not names of classes
    on_empty: `skip` leaves out and counts examples with an empty text, `keep` keeps them, `fail` stops there
    """

    text: Column = "text"
    pair: Column | None = None
    label: Column | None = "label"
    id: Column | None = None
    labels: dict[str, Name | None] = Field(default_factory=dict)
    score: bool = False
    on_empty: OnEmpty = "skip"
    gives: ClassVar[Gives] = "texts"

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.score and self.labels:
            yield Problem(("labels",), "must be left out where labels are scores", got=self.labels)
        for name in ("pair", "label"):
            if (column := getattr(self, name)) == self.text:
                yield Problem((name,), "must be another column than text", got=column)

    def columns(self, labelled: bool) -> Columns:
        """The columns that are read."""
        return Columns(self.text, self.pair, self.label if labelled else None, self.id)

    def examples(self, rows: Iterable[Cells], labelled: bool, tally: Tally) -> Iterator[TextExample]:
        """The examples in `rows`; what is left out is counted in `tally`, what is bad is said or counted."""
        with_label = labelled and self.label is not None
        for cells in rows:
            text = self._text(cells.text, self.text, cells.place)
            pair = None if self.pair is None else self._text(cells.pair, self.pair, cells.place)
            if text is None or (pair is None and self.pair is not None):
                continue
            if (text == "" or pair == "") and not self._takes_empty(cells.place, tally):
                continue
            label = self._label(cells, tally) if with_label else None
            if label is not None or not with_label:
                yield TextExample(cells.key if cells.id in (None, "") else str(cells.id), text, pair, label)

    def _text(self, value: Any, column: Column, place: BadPlace) -> str | None:
        if isinstance(value, str):
            return clean(value)
        if value is None:
            return ""
        message = f"must have a text in column {column!r}, it is of type {type(value).__name__}"
        place.bad(f"record without a text {column!r}", message)
        return None

    def _takes_empty(self, place: BadPlace, tally: Tally) -> bool:
        if self.on_empty == "fail":
            raise UserError(f"{place.place()}: the text is empty. Set on_empty to skip or keep to go on")
        if self.on_empty == "skip":
            tally.drop("empty")
        return self.on_empty == "keep"

    def _label(self, cells: Cells, tally: Tally) -> str | float | None:
        if self.score:
            return self._score(cells)
        if isinstance(cells.label, str) and (known := self.labels.get(cells.label)):
            return known
        raw = _class_name(cells.label)
        if raw is None:
            blank = cells.label is None or isinstance(cells.label, str)
            got = "it is empty" if blank else f"it is of type {type(cells.label).__name__}"
            cells.place.bad("record without a label", f"must have a class in column {self.label!r}, {got}")
            return None
        name = self.labels.get(raw, raw)
        if name is None:
            tally.drop(f"label {raw} left out")
        return name

    def _score(self, cells: Cells) -> float | None:
        value = cells.label
        try:
            score = math.nan if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            score = math.nan
        if math.isfinite(score):
            return score
        cells.place.bad("record without a score", f"must have a number in column {self.label!r}, got {value!r}")
        return None


def no_column(column: str, names: Iterable[str]) -> str:
    """The message for a table whose columns are `names`: what it lacks, what was probably meant, what it has."""
    found = [name for name in names if name]
    meant = nearest(column, found) or "."
    return f"there is no column {column!r}{meant} Columns: {', '.join(found) or 'none'}"


def _class_name(value: Any) -> str | None:
    """A class as text writes it: 1 for 1.0, true for True; None where the value is no class."""
    if isinstance(value, str):
        return clean(value) or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else None
