"""Data sets of the Hugging Face hub, or in a directory: whatever `datasets` loads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from reforge.corpora import huggingface
from reforge.corpora.labelled.by_ending import table_in_file
from reforge.corpora.labelled.example import Example
from reforge.corpora.labelled.reader import no_example
from reforge.corpora.labelled.records import Record, RecordTable
from reforge.corpora.reader import OnBadRecord, Reader
from reforge.corpora.records import Name, Row
from reforge.corpora.tally import Tally
from reforge.spec import Problem, UserError


class Huggingface(RecordTable):
    """Labelled texts in the rows of a data set; a label that the data set knows the names of is called by its name.

    dataset: name on the hub, `klue`, or a directory: one that `save_to_disk` wrote, or one of data files
    config: which of the data set's configurations, `ynat`; null: the only or the default one
    split: which of its splits, also a part of one: `train[:10%]`
    revision: branch, tag or commit on the hub; null: the newest
    on_bad_record: `fail` stops at a row that can't be read and names it, `skip` counts it by reason
    """

    kind: Literal["huggingface"] = "huggingface"
    dataset: Name
    config: Name | None = None
    split: Name = "train"
    revision: Name | None = None
    on_bad_record: OnBadRecord = "fail"

    def unreadable(self) -> Iterator[Problem]:
        yield from self._source(self.dataset, labelled=True).problems()

    def files(self, path: Path | None = None) -> list[Path]:
        if path is None or path.is_dir():
            return self._source(str(path or self.dataset), labelled=True).files()
        return table_in_file(path, self, self.on_bad_record).files()

    def identity(self) -> dict[str, Any]:
        options = self.model_dump(mode="json", exclude={"dataset"})
        return {**options, "source": self._source(self.dataset, labelled=True).identity()}

    def read(self, path: Path | None = None, labelled: bool = True, tally: Tally | None = None) -> Iterator[Example]:
        tally = Tally() if tally is None else tally
        if path is not None and not path.is_dir():
            yield from table_in_file(path, self, self.on_bad_record).read(labelled=labelled, tally=tally)
            return
        dataset = str(path or self.dataset)
        num_before = tally.documents
        for example in self.examples(self.cells(self._records(dataset, labelled, tally), labelled), labelled, tally):
            tally.documents += 1
            yield example
        if tally.documents == num_before:
            raise UserError(no_example(f"{dataset} ({self.split})", tally))

    def _source(self, dataset: str, labelled: bool) -> huggingface.Huggingface:
        columns = tuple(self.names(labelled)) + (() if self.id is None else (self.id,))
        return huggingface.Huggingface(
            dataset=dataset, config=self.config, split=self.split, revision=self.revision, column=columns
        )

    def _records(self, dataset: str, labelled: bool, tally: Tally) -> Iterator[Record]:
        rows = self._source(dataset, labelled).rows()
        label = self.label if labelled else None
        classes = getattr(rows.features.get(label), "names", None)
        reader = Reader(Path(dataset), Path(dataset).name, tally, self.on_bad_record)
        for number, record in huggingface.numbered(rows, 0, rows.num_rows):
            if classes and label:
                record[label] = _class_name(record[label], classes)
            yield Record(f"{reader.name}: row {number}", Row(reader, number), record)


def _class_name(value: int | None, classes: list[str]) -> str | None:
    """The name of a class given by its number; -1 is how the hub's sets say that it is not known."""
    return None if value is None or value < 0 else classes[value]
