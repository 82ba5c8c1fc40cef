"""A part of a corpus as rows of tokens in files of its own.

slices or spool -> documents -- without duplicates --> pieces -> token ids -> a packer for each (split, set) -> files
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from reforge.batches.data import Data
from reforge.batches.duplicates import dropped_in
from reforge.batches.executor import Tick
from reforge.batches.packers import make_packer
from reforge.batches.packing import Packer, stretches
from reforge.batches.parts import CorpusPart
from reforge.batches.reading import PartReading, SplitDocument
from reforge.batches.shards import token_dtype
from reforge.batches.spool import has_spool, read_spool
from reforge.batches.storage import building, read_manifest, write_manifest
from reforge.batches.survey import ticking
from reforge.corpora import Tally
from reforge.tokenizers.encoder import Encoder

SPLITS = ("train", "valid")
_BATCH_CHARS = 1 << 19


@dataclass(frozen=True)
class EncodeTask:
    """One part to be encoded and packed.

    survey: folder of the part's first reading, if there was one
    dropped: folders that name the duplicates of all parts
    """

    data: Data
    part: CorpusPart
    tokenizer: Path
    survey: Path | None
    dropped: tuple[Path, ...]
    folder: Path


class Piece(NamedTuple):
    """A stretch of a document (a line, where each has rows of its own), small enough to be encoded at once."""

    split: str
    group: str
    text: str
    ends_document: bool


def encode_part(task: EncodeTask, tick: Tick) -> dict[str, Any]:
    """Encode and pack a part unless that was done before; its manifest."""
    found, _ = read_manifest(task.folder)
    if found is not None:
        return found
    reading = PartReading(task.data.corpus, task.data.clean, task.data.valid_fraction)
    encoder, vocab_size = _encoder(task.tokenizer)
    with building(task.folder) as folder:
        packers = _Packers(task.data, folder, vocab_size)
        dropped: Counter[str] = Counter()
        numbers = dropped_in(task.dropped, task.part.number) if task.dropped else {}
        documents = _without(_documents(task, reading), numbers, dropped)
        _encode(ticking(documents, tick), encoder, packers, task.data.packing == "lines")
        return write_manifest(folder, {**_counts(task, reading, dropped), "splits": packers.finish()})


class _Packers:
    """A packer for every set of each split, made when its first document comes."""

    def __init__(self, data: Data, folder: Path, vocab_size: int) -> None:
        self._data, self._folder, self._dtype = data, folder, token_dtype(vocab_size)
        self._numbers = {name: number for number, name in enumerate(set_names(data))}
        self._packers: dict[tuple[str, str], Packer] = {}

    def __getitem__(self, key: tuple[str, str]) -> Packer:
        if key not in self._packers:
            split, group = key
            self._packers[key] = make_packer(self._data, self._folder, f"{split}-{self._numbers[group]}", self._dtype)
        return self._packers[key]

    def finish(self) -> dict[str, dict[str, Any]]:
        """Write what is left; each set's report by split and name."""
        reports: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
        for (split, group), packer in sorted(self._packers.items()):
            packer.finish()
            reports[split][group] = packer.report()
        return reports


def set_names(data: Data) -> Sequence[str]:
    """The sets that documents are kept apart by; one without a name where nothing is weighted."""
    return sorted(data.corpus.weights()) or [""]


@lru_cache(maxsize=1)
def _encoder(file: Path) -> tuple[Encoder, int]:
    """One for all parts that a process works on: it remembers the words it has seen. And the size of its vocabulary.

    A file of another content has another name.
    """
    tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    return Encoder(tokenizer), tokenizer.get_vocab_size()


def _documents(task: EncodeTask, reading: PartReading) -> Iterator[SplitDocument]:
    if task.survey is not None and has_spool(task.survey):
        return read_spool(task.survey)
    return reading.documents(task.part.slices)


def _without(
    documents: Iterable[SplitDocument], numbers: Mapping[int, str], dropped: Counter[str]
) -> Iterator[SplitDocument]:
    """The documents whose number is not among `numbers`; the others are counted by reason."""
    for number, split_document in enumerate(documents):
        if number in numbers:
            dropped[numbers[number]] += 1
        else:
            yield split_document


def _encode(documents: Iterable[SplitDocument], encoder: Encoder, packers: _Packers, by_line: bool) -> None:
    """Hand the tokens of every document to its packer, a bounded amount of text at a time."""
    for batch in _batches(chain.from_iterable(_pieces(split_document, by_line) for split_document in documents)):
        for piece, ids in zip(batch, encoder.encode([piece.text for piece in batch]), strict=True):
            packers[piece.split, piece.group].add(ids, len(piece.text.encode()), piece.ends_document)


def _pieces(split_document: SplitDocument, by_line: bool) -> Iterator[Piece]:
    split, document = split_document
    for text, ends in stretches(document.text, by_line):
        yield Piece(split, document.group, text, ends_document=ends)


def _batches(stream: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    num_chars = 0
    for piece in stream:
        batch.append(piece)
        num_chars += len(piece.text)
        if num_chars >= _BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _counts(task: EncodeTask, reading: PartReading, dropped: Counter[str]) -> dict[str, Any]:
    """Tally and split of the part's only reading, or of its first one."""
    counts = {"tally": reading.tally.as_dict(), "counts": asdict(reading.counts)}
    if task.survey is not None:
        first, _ = read_manifest(task.survey)
        assert first is not None
        counts = {key: first[key] for key in counts}
    tally = Tally.from_dict(counts["tally"])
    for reason, times in sorted(dropped.items()):
        tally.drop(reason, times)
        tally.documents -= times
    return {"tally": tally.as_dict(), "counts": counts["counts"]}
