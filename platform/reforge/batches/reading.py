"""A part of a corpus as clean documents with the side of the split that each falls on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from reforge.batches.split import split_position
from reforge.corpora import Corpus, Document, Slice, Tally
from reforge.corpora.cleaning import Cleaning, clean
from reforge.spec import UserError


class SplitDocument(NamedTuple):
    """A document and its split, `train` or `valid`."""

    split: str
    document: Document


@dataclass
class SplitCounts:
    """How many documents fell on each side, and the lowest position: a smaller valid_fraction leaves nothing."""

    train: int = 0
    valid: int = 0
    lowest: float = 1.0

    def add(self, other: "SplitCounts") -> None:
        """Take over another part's counts."""
        self.train += other.train
        self.valid += other.valid
        self.lowest = min(self.lowest, other.lowest)


@dataclass
class PartReading:
    """The documents of some slices of a corpus, read once; counts are complete when `documents` has ended."""

    corpus: Corpus
    cleaning: Cleaning
    valid_fraction: float
    tally: Tally = field(default_factory=Tally)
    counts: SplitCounts = field(default_factory=SplitCounts)

    def documents(self, slices: tuple[Slice, ...]) -> Iterator[SplitDocument]:
        """Every document that cleaning keeps, in order."""
        for raw in self.corpus.read(slices, self.tally):
            document = clean(raw, self.cleaning, self.tally)
            if document is None:
                continue
            position = split_position(document.text)
            self.counts.lowest = min(self.counts.lowest, position)
            split = "valid" if position < self.valid_fraction else "train"
            setattr(self.counts, split, getattr(self.counts, split) + 1)
            yield SplitDocument(split, document)


def check_split(counts: SplitCounts, tally: Tally, valid_fraction: float) -> None:
    """Raise UserError where a split has no documents, with what would mend it."""
    total = counts.train + counts.valid
    dropped = ", ".join(f"{reason}: {times:,}" for reason, times in tally.dropped.most_common())
    if not total:
        raise UserError(f"the corpus has no documents ({tally.files:,} files read; dropped: {dropped or 'nothing'})")
    if counts.train and counts.valid:
        return
    sides = f"{counts.train:,} for training and {counts.valid:,} for validation"
    if total == 1:
        advice = "A corpus needs two documents at least: a text corpus may cut files with documents_by: blank_line"
    elif counts.train and counts.lowest < 0.5:
        advice = f"Set data.valid_fraction to {_above(counts.lowest)} or more, or add documents"
    elif counts.train:
        advice = "Add documents"
    else:
        advice = "Set data.valid_fraction lower, or add documents"
    raise UserError(
        f"the corpus is too small to split: of {total:,} document{'s' * (total > 1)}, data.valid_fraction "
        f"{valid_fraction:g} leaves {sides}. {advice}"
    )


def _above(position: float) -> str:
    """A short decimal number just above `position`."""
    return f"{min(1.0, (int(position * 10_000) + 1) / 10_000):g}"
