"""What reading a corpus kept, dropped and mended, by reason: the first part of every preparation report."""

from collections import Counter
from typing import Any

_MOST_TROUBLE = 20


class Tally:
    """Counts documents and characters kept, documents dropped and places mended.

    trouble: what was wrong with the first records that could not be read, in words
    """

    def __init__(self) -> None:
        self.files = 0
        self.documents = 0
        self.characters = 0
        self.dropped: Counter[str] = Counter()
        self.fixed: Counter[str] = Counter()
        self.trouble: list[str] = []

    @property
    def wants_trouble(self) -> bool:
        """Whether there is room for another message in `trouble`."""
        return len(self.trouble) < _MOST_TROUBLE

    def keep(self, text: str) -> None:
        self.documents += 1
        self.characters += len(text)

    def drop(self, reason: str, times: int = 1) -> None:
        self.dropped[reason] += times

    def take_back(self, text: str, reason: str) -> None:
        """Count a document that was counted as kept as dropped after all."""
        self.documents -= 1
        self.characters -= len(text)
        self.drop(reason)

    def replace(self, before: str, after: str) -> None:
        """Count a document that was counted as kept with another text."""
        self.characters += len(after) - len(before)

    def fix(self, reason: str, times: int = 1) -> None:
        if times:
            self.fixed[reason] += times

    def tell_trouble(self, message: str) -> None:
        self.trouble.append(message)

    def add(self, other: "Tally") -> None:
        """Take over another's counts: that of the next part of the same corpus."""
        self.files += other.files
        self.documents += other.documents
        self.characters += other.characters
        self.dropped += other.dropped
        self.fixed += other.fixed
        self.trouble = [*self.trouble, *other.trouble][:_MOST_TROUBLE]

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON holds them, the most frequent reason first."""
        return {
            "files": self.files,
            "documents": self.documents,
            "characters": self.characters,
            "dropped": dict(self.dropped.most_common()),
            "fixed": dict(self.fixed.most_common()),
            "trouble": self.trouble,
        }

    @classmethod
    def from_dict(cls, counts: dict[str, Any]) -> "Tally":
        """The tally that `as_dict` gave `counts` of."""
        tally = cls()
        tally.files, tally.documents = counts["files"], counts["documents"]
        tally.characters, tally.trouble = counts["characters"], list(counts["trouble"])
        tally.dropped, tally.fixed = Counter(counts["dropped"]), Counter(counts["fixed"])
        return tally
