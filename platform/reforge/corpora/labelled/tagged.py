"""Files of tagged sentences: what their readers share.

lines -> blocks -> sentences, tags as the file has them -> TagForm of the whole file -> examples with IOB2 tags
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from reforge.corpora.encoding import Encoding
from reforge.corpora.labelled.example import TaggedExample
from reforge.corpora.labelled.iob import Scheme, TagError, TagForm
from reforge.corpora.labelled.reader import LabelledFiles
from reforge.corpora.reader import Reader

_NO_WIDTH = " \t"


class Line(NamedTuple):
    """A line and its number in the file, from 1 on."""

    number: int
    text: str


class Sentence(NamedTuple):
    """A sentence as its file has it.

    tags: in the file's own scheme; None where they are not asked for
    lines: the number of each tag's line
    """

    key: str
    text: str
    units: tuple[tuple[int, int], ...]
    tags: tuple[str, ...] | None
    lines: Sequence[int]


class TaggedFiles(LabelledFiles):
    """A labelled set whose files hold a tag for each unit.

    scheme: of the tags, in all files: `auto` finds it; `io` takes every tag for a type, whatever it looks like
    encoding: of all files; cp949 reads EUC-KR as well
    """

    gives = "tags"
    scheme: Scheme = "auto"
    encoding: Encoding = "utf-8"

    def read_file(self, reader: Reader, labelled: bool) -> Iterator[TaggedExample]:
        sentences = list(self.sentences(reader, labelled))
        form = TagForm.of([sentence.tags for sentence in sentences if sentence.tags is not None], self.scheme)
        for sentence in sentences:
            yield from _examples(sentence, form, reader)

    @abstractmethod
    def sentences(self, reader: Reader, labelled: bool) -> Iterator[Sentence]:
        """Stream the sentences of one file; their tags are None unless `labelled`."""


def is_blank(line: str) -> bool:
    """Whether a line holds nothing but spaces and tabs; other white space can be a word."""
    return not line.strip(_NO_WIDTH)


def blocks(reader: Reader, encoding: Encoding, ends: Callable[[str], bool] = is_blank) -> Iterator[list[Line]]:
    """Runs of lines between those that `ends` holds for. A run that has a line which can't be read is left out."""
    block, num_bad = list[Line](), reader.num_bad
    for text in reader.lines(encoding=encoding):
        if not ends(text):
            block.append(Line(reader.line_number(), text))
            continue
        yield from _whole(block, num_bad, reader)
        block, num_bad = [], reader.num_bad
    yield from _whole(block, num_bad, reader)


def bad_line(reader: Reader, number: int, reason: str, message: str) -> None:
    """`reader.bad` about a line that was read earlier."""
    reader.bad(reason, f"{reader.file}:{number}: {message}", placed=True)


def joined(tokens: Iterable[str], join: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of tokens with `join` between them, and [start, end) of each in it."""
    units, start = list[tuple[int, int]](), 0
    tokens = list(tokens)
    for token in tokens:
        units.append((start, start + len(token)))
        start += len(token) + len(join)
    return join.join(tokens), tuple(units)


def _whole(block: list[Line], num_bad: int, reader: Reader) -> Iterator[list[Line]]:
    if block and reader.num_bad == num_bad:
        yield block
    elif block:
        reader.tally.drop("sentence with a line that cannot be read")


def _examples(sentence: Sentence, form: TagForm, reader: Reader) -> Iterator[TaggedExample]:
    key, text, units, written, lines = sentence
    if written is None:
        yield TaggedExample(key, text, units, None)
        return
    try:
        tags, num_begun = form.iob2(written)
    except TagError as error:
        bad_line(reader, lines[error.index], "tag of another form", str(error))
        return
    reader.tally.fix("I- at an entity's begin, as IOB1 has it" if form.scheme == "iob1" else _NO_BEGIN, num_begun)
    yield TaggedExample(key, text, units, tags)


_NO_BEGIN = "I- without a begin made a B-"
