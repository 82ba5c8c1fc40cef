"""What every labelled set promises, and those that lie in files.

    path --> files --> Reader (lines; what is bad is said or counted) --> examples

A new form of set is one file with a class and one line in `LABELLED`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from reforge.corpora.labelled.example import Example
from reforge.corpora.place import Place, exists, fixed_part, nearest_existing, visible_files
from reforge.corpora.reader import OnBadRecord, Reader
from reforge.corpora.tally import Tally
from reforge.spec import Part, Problem, UserError

Gives = Literal["texts", "tags", "questions"]


class LabelledOptions(Part, ABC):
    """Where a labelled set is and how it is read. `identity()` and the content of `files()` decide what comes out.

    gives: texts or pairs of them (TextExample), tagged texts (TaggedExample), or questions (QuestionExample)
    """

    kind: str
    gives: ClassVar[Gives]

    def problems(self) -> Iterator[Problem]:
        """What `rules` say; where they say nothing, also what keeps the set from being read."""
        yield from super().problems()
        broken = list(self.rules())
        yield from broken or self.unreadable()

    def rules(self) -> Iterator[Problem]:
        """Yield the options that do not go together."""
        yield from ()

    def unreadable(self) -> Iterator[Problem]:
        """Yield what keeps the set, or its first example, from being read: no such file, no such column."""
        yield from ()

    def files(self, path: Path | None = None) -> list[Path]:
        """Every file that is read, in reading order; none where the source is no file."""
        return []

    def identity(self) -> dict[str, Any]:
        """The options that decide the examples, without where they lie."""
        return self.model_dump(mode="json")

    @abstractmethod
    def read(self, path: Path | None = None, labelled: bool = True, tally: Tally | None = None) -> Iterator[Example]:
        """Stream the examples in a fixed order; what was left out is counted in `tally` by reason.

        path: read in place of the set's own, in the same form
        labelled: False for a set to be predicted: answers are not looked for, and are None
        Raises UserError, with file and line, at what can't be read; and where there is no example at all.
        """


class LabelledFiles(LabelledOptions):
    """A labelled set in a file, in all files below a directory, or in the files that a glob pattern matches.

    path: local, or a URL such as s3://bucket/folder; .gz, .bz2, .xz and .zst are unpacked on the way. Hidden files and
        directories are left out
    on_bad_record: `fail` stops at a record that can't be read and names it, `skip` counts it by reason
    endings: of the files that are read below a directory, in lower case; () reads all. A file named by itself, or by a
        pattern, is read whatever its ending
    """

    path: Place
    on_bad_record: OnBadRecord = "fail"
    endings: ClassVar[tuple[str, ...]] = ()

    def unreadable(self) -> Iterator[Problem]:
        try:
            next(self.read(), None)
        except UserError as error:
            yield Problem(("path",), str(error))

    def files(self, path: Path | None = None) -> list[Path]:
        """Raises UserError where there is no file."""
        place = (path or self.path).expanduser()
        found = visible_files(place)
        if place.is_dir() and self.endings:
            found = [file for file in found if unpacked_name(file).endswith(self.endings)]
        if not found:
            raise UserError(_no_file(place, self.endings))
        return found

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"path"})

    def read(self, path: Path | None = None, labelled: bool = True, tally: Tally | None = None) -> Iterator[Example]:
        tally = Tally() if tally is None else tally
        root = fixed_part((path or self.path).expanduser())
        num_before = tally.documents
        for file in self.files(path):
            tally.files += 1
            reader = Reader(file, file.relative_to(root).as_posix(), tally, self.on_bad_record)
            for example in self.read_file(reader, labelled):
                tally.documents += 1
                yield example
        if tally.documents == num_before:
            raise UserError(no_example(str(path or self.path), tally))

    @abstractmethod
    def read_file(self, reader: Reader, labelled: bool) -> Iterator[Example]:
        """Stream the examples of one file; `reader.bad` says or counts what is wrong, `reader.tally` what is left out.

        An example's key is f"{reader.name}:{reader.line_number()}", unless the set has keys of its own.
        """


def no_example(source: str, tally: Tally) -> str:
    """The message for a source that gave no example, with what was left out."""
    dropped = ", ".join(f"{reason} {count}" for reason, count in tally.dropped.most_common())
    return f"{source} holds no example" + (f"; left out: {dropped}" if dropped else "")


def unpacked_name(file: Path) -> str:
    """A file's name in lower case, without the ending of what it is packed by."""
    name = file.name.lower()
    for packed in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    return name


def _no_file(place: Path, endings: tuple[str, ...]) -> str:
    if exists(place):
        return f"{place} must be a file or hold files" + (f" that end in {' or '.join(endings)}" if endings else "")
    nearest = nearest_existing(place)
    return f"{place} does not exist" + (f"; did you mean {nearest}?" if nearest else "")
