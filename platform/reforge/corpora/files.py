"""Corpora that are files: what a `path` stands for, and how its files are read one by one or in ranges."""

import glob
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from reforge.corpora.corpus import Corpus, Document, Slice
from reforge.corpora.place import Place, exists, fixed_part, nearest_existing, visible_files
from reforge.corpora.reader import OnBadRecord, Reader
from reforge.corpora.tally import Tally
from reforge.spec import Problem, UserError


class FileCorpus(Corpus):
    """A corpus in a file, in all files below a directory, or in the files that a glob pattern matches.

    path: local, or a URL such as s3://bucket/folder. Hidden files and directories are left out
    on_bad_record: `fail` stops at a record that can't be read and names it, `skip` counts it in the report
    endings: of the files that are read below a directory, in lower case; () reads all. A file named by itself, or by a
        pattern, is read whatever its ending
    """

    path: Place
    on_bad_record: OnBadRecord = "fail"
    endings: ClassVar[tuple[str, ...]] = ()

    def files(self) -> list[Path]:
        path = self.path.expanduser()
        found = visible_files(path)
        if not self.endings or found == [path] or glob.has_magic(str(path)):
            return found
        return [file for file in found if file.name.lower().endswith(self.endings)]

    def file_names(self) -> list[str]:
        root = fixed_part(self.path.expanduser())
        return [file.relative_to(root).as_posix() for file in self.files()]

    def identity(self) -> dict[str, object]:
        # Where the files stand does not change what is in them.
        return self.model_dump(mode="json", exclude={"path"})

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        path = self.path.expanduser()
        try:
            if not (glob.has_magic(str(path)) or exists(path)):
                yield Problem(("path",), "must exist", got=str(self.path), nearest=nearest_existing(path))
            elif not self.files():
                yield Problem(("path",), self._rule_for_files(path), got=str(self.path))
        except UserError as error:
            yield Problem(("path",), str(error))

    def whole(self) -> list[Slice]:
        files = self.files()
        root = fixed_part(self.path.expanduser())
        return [Slice(file.relative_to(root).as_posix(), file) for file in files]

    def read(self, slices: Sequence[Slice], tally: Tally) -> Iterator[Document]:
        for part in slices:
            assert part.file is not None
            tally.files += part.start == 0
            yield from self.read_file(Reader(part.file, part.name, tally, self.on_bad_record, part.start, part.stop))

    @abstractmethod
    def read_file(self, reader: Reader) -> Iterator[Document]:
        """Stream the documents of one file, or of the range that `reader` is for, and count them in its tally."""

    def _rule_for_files(self, path: Path) -> str:
        named = f"that end in {' or '.join(self.endings)}" if self.endings else ""
        if glob.has_magic(str(path)):
            return "must match a file"
        return f"must be a file or hold files {named}".rstrip()
