"""Data sets of the Hugging Face hub, or in a directory: whatever `datasets` loads.

dataset, config, split, revision -> datasets.Dataset (Arrow files, mapped into memory) -> rows -> Document
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reforge.corpora.corpus import Corpus, Document, Extent, Slice
from reforge.corpora.place import fixed_part, visible_files
from reforge.corpora.reader import OnBadRecord, Reader
from reforge.corpora.records import Columns, Name, Row, clean, column_names, nearest, text_of
from reforge.corpora.tally import Tally
from reforge.spec import Problem, UserError

if TYPE_CHECKING:
    import datasets

_BATCH_ROWS = 128
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"


class Huggingface(Corpus):
    """The texts of a data set's rows; nothing is cleaned but Unicode's normal form (NFC) and the space at the ends.

    dataset: name on the hub, `wikimedia/wikipedia`, or a directory: one that `save_to_disk` wrote, or one of data files
    config: which of the data set's configurations, `20231101.ko`; null: the only or the default one
    split: which of its splits, also a part of one: `train[:10%]`
    column: name of the column, `meta.body` for one in a nested one, or a list whose texts are joined, one a line
    revision: branch, tag or commit on the hub; null: the newest
    on_bad_record: `fail` stops at a row without such a text and names it, `skip` counts it in the report
    """

    kind: Literal["huggingface"] = "huggingface"
    dataset: Name
    config: Name | None = None
    split: Name = "train"
    column: Columns = "text"
    revision: Name | None = None
    on_bad_record: OnBadRecord = "fail"
    reads_fast = True

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        directory = self._directory()
        if directory and self.revision is not None:
            yield Problem(("revision",), "must be null for a directory", got=self.revision)
        try:
            self._check_split(directory)
        except UserError as error:
            yield Problem(("dataset",), str(error))

    def files(self) -> list[Path]:
        directory = self._directory()
        return visible_files(directory) if directory else []

    def file_names(self) -> list[str]:
        directory = self._directory()
        return [file.relative_to(fixed_part(directory)).as_posix() for file in self.files()] if directory else []

    def identity(self) -> dict[str, object]:
        if self._directory():  # the files say the rest
            return self.model_dump(mode="json", exclude={"dataset"})
        with _loading(self.dataset):
            fingerprint = self._load(None)._fingerprint
        return {**super().identity(), "fingerprint": fingerprint}

    def whole(self) -> list[Slice]:
        return [Slice(Path(self.dataset).name if self._directory() else self.dataset)]

    def cuttable(self, whole: Slice) -> bool:
        return True

    def extent(self, whole: Slice) -> Extent:
        rows = self.rows()
        return Extent(rows.num_rows, int(rows.data.nbytes))

    def read(self, slices: Sequence[Slice], tally: Tally) -> Iterator[Document]:
        rows = self.rows()
        for part in slices:
            reader = Reader(Path(self.dataset), part.name, tally, self.on_bad_record)
            stop = rows.num_rows if part.stop is None else min(part.stop, rows.num_rows)
            for number, record in numbered(rows, part.start, stop):
                found = text_of(record, self.column, Row(reader, number))
                if found is None:
                    continue
                if text := clean(found):
                    tally.keep(text)
                    yield Document(f"{part.name}: row {number}", text)
                else:
                    tally.drop("empty")

    def _directory(self) -> Path | None:
        path = Path(self.dataset).expanduser()
        return path if path.is_dir() else None

    def rows(self) -> "datasets.Dataset":
        """The split with the columns that are read. Raises UserError where there is none, or not the columns."""
        with _loading(self.dataset):
            rows = self._load(self._directory())
        tops = {name: name if name in rows.column_names else name.partition(".")[0] for name in self._names}
        for name, top in tops.items():
            if top not in rows.column_names:
                has = ", ".join(rows.column_names)
                raise UserError(f"{self.dataset} has no column {name!r}, it has {has}{nearest(top, rows.column_names)}")
        return rows.select_columns(list(dict.fromkeys(tops.values())))

    @property
    def _names(self) -> tuple[str, ...]:
        return column_names(self.column)

    def _load(self, directory: Path | None) -> Any:
        import datasets  # takes seconds, and few corpora need it

        if directory and (saved := _saved_splits(directory, self._split_names()[0])):
            return _chosen(saved, self.split)
        return datasets.load_dataset(
            str(directory or self.dataset), self.config, split=self.split, revision=self.revision
        )

    def _split_names(self) -> list[str]:
        """The names in `split`, which may be "train[:10%]+test"."""
        return [part.partition("[")[0].strip() for part in self.split.split("+")]

    def _check_split(self, directory: Path | None) -> None:
        found = self._found_splits(directory)
        for split in self._split_names():
            if split not in found:
                has = f"it has {', '.join(found)}{nearest(split, found)}"
                raise UserError(f"{self.dataset} has no split {split!r}, {has}")
        if directory:  # a hub's rows would have to be downloaded first
            self.rows()

    def _found_splits(self, directory: Path | None) -> list[str]:
        import datasets

        with _loading(self.dataset):
            if directory and (saved := _saved_splits(directory, self._split_names()[0])):
                return list(saved)
            return list(
                datasets.get_dataset_split_names(str(directory or self.dataset), self.config, revision=self.revision)
            )


def _saved_splits(directory: Path, only: str) -> dict[str, Any]:
    """The splits that `save_to_disk` wrote; a data set without splits is the one called `only`."""
    import datasets

    if not ((directory / _SAVED).is_file() or (directory / _SAVED_SPLITS).is_file()):
        return {}
    saved: Any = datasets.load_from_disk(str(directory))
    return dict(saved) if isinstance(saved, datasets.DatasetDict) else {only: saved}


def _chosen(splits: dict[str, Any], split: str) -> Any:
    import datasets

    instruction = datasets.ReadInstruction.from_spec(split)
    stretches = instruction.to_absolute({name: rows.num_rows for name, rows in splits.items()})
    return datasets.concatenate_datasets(
        [splits[part.splitname].select(range(part.from_, part.to)) for part in stretches]
    )


def numbered(rows: Any, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records from row `start` up to `stop` with their numbers from 1 on."""
    for first in range(start, stop, _BATCH_ROWS):
        columns = rows[first : min(first + _BATCH_ROWS, stop)]
        for at, values in enumerate(zip(*columns.values(), strict=True), first + 1):
            yield at, dict(zip(columns, values, strict=True))


@contextmanager
def _loading(dataset: str) -> Iterator[None]:
    """Say what `datasets` can't load, and why, in one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the hub's, the network's, the file formats': without a base in common
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the data set {dataset!r} cannot be loaded: {reason}") from error
