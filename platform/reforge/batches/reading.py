"""A corpus read for a preparation: with progress, the split of each document, and a second pass that may be free."""

from collections.abc import Callable, Iterator
from functools import partial

from reforge.batches.progress import Progress
from reforge.batches.split import split_position
from reforge.corpora import Corpus, Tally
from reforge.spec import UserError

_REMEMBERED_BYTES = 64 << 20


class Reading:
    """The (split, text) pairs of a corpus. A small one is kept after the first pass; a larger one is read again."""

    def __init__(self, corpus: Corpus, valid_fraction: float, announce: Callable[[str], None]) -> None:
        self.tally = Tally()
        self._corpus, self._valid_fraction, self._announce = corpus, valid_fraction, announce
        self._remembered: list[tuple[str, str]] | None = None

    def documents(self, purpose: str) -> Iterator[tuple[str, str]]:
        """Every document in order. Raises UserError at the end if a split has none."""
        if self._remembered is not None:
            yield from self._remembered
            return
        self.tally = Tally()
        remembered: list[tuple[str, str]] | None = []
        counts = {"train": 0, "valid": 0}
        lowest, num_bytes = 1.0, 0
        progress = Progress(self._announce)
        for document in self._corpus.documents(self.tally):
            position = split_position(document.text)
            lowest = min(lowest, position)
            split = "valid" if position < self._valid_fraction else "train"
            counts[split] += 1
            num_bytes += len(document.text.encode())
            if remembered is not None:
                remembered.append((split, document.text))
                remembered = remembered if num_bytes <= _REMEMBERED_BYTES else None
            yield split, document.text
            progress(partial(self._progress_line, purpose, num_bytes))
        self._check(counts, lowest)
        self._remembered = remembered

    def _progress_line(self, purpose: str, num_bytes: int) -> str:
        return f"{purpose}: {self.tally.documents:,} documents, {num_bytes / 1e6:,.1f} MB"

    def _check(self, counts: dict[str, int], lowest: float) -> None:
        total = sum(counts.values())
        dropped = ", ".join(f"{reason}: {times:,}" for reason, times in self.tally.dropped.most_common())
        if not total:
            raise UserError(
                f"the corpus has no documents ({self.tally.files:,} files read; dropped: {dropped or 'nothing'})"
            )
        if all(counts.values()):
            return
        sides = f"{counts['train']:,} for training and {counts['valid']:,} for validation"
        if total == 1:
            advice = "A corpus needs two documents at least: a text corpus may cut files with documents_by: blank_line"
        elif counts["train"] and lowest < 0.5:
            advice = f"Set data.valid_fraction to {_above(lowest)} or more, or add documents"
        elif counts["train"]:
            advice = "Add documents"
        else:
            advice = "Set data.valid_fraction lower, or add documents"
        raise UserError(
            f"the corpus is too small to split: of {total:,} document{'s' * (total > 1)}, data.valid_fraction "
            f"{self._valid_fraction:g} leaves {sides}. {advice}"
        )


def _above(position: float) -> str:
    """A short decimal number just above `position`."""
    return f"{min(1.0, (int(position * 10_000) + 1) / 10_000):g}"
