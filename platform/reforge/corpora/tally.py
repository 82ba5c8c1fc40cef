"""What reading a corpus kept, dropped and mended, by reason: the first part of every preparation report."""

from collections import Counter


class Tally:
    """Counts documents and characters kept, documents dropped and places mended."""

    def __init__(self) -> None:
        self.files = 0
        self.documents = 0
        self.characters = 0
        self.dropped: Counter[str] = Counter()
        self.fixed: Counter[str] = Counter()

    def keep(self, text: str) -> None:
        self.documents += 1
        self.characters += len(text)

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def fix(self, reason: str, times: int = 1) -> None:
        if times:
            self.fixed[reason] += times

    def as_dict(self) -> dict[str, object]:
        """The counts as JSON holds them, the most frequent reason first."""
        return {
            "files": self.files,
            "documents": self.documents,
            "characters": self.characters,
            "dropped": dict(self.dropped.most_common()),
            "fixed": dict(self.fixed.most_common()),
        }
