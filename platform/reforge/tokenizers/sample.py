"""A sample of bounded size from a stream of texts of any length: the same texts give the same sample in any order."""

import hashlib
from collections.abc import Iterable, Iterator

_PIECE_CHARS = 1 << 16
_ALL = 1 << 64


def pieces(text: str, max_chars: int = _PIECE_CHARS) -> Iterator[str]:
    """Cut a long text at white space: a line's end if the last half of a piece has one, else any, else anywhere."""
    start = 0
    while len(text) - start > max_chars:
        end = _cut(text, start + max_chars // 2, start + max_chars)
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _cut(text: str, low: int, high: int) -> int:
    for mark in ("\n", " "):
        at = text.rfind(mark, low, high)
        if at >= 0:
            return at + 1
    return high


def sample(texts: Iterable[str], max_bytes: int, limit: int = _ALL) -> list[str]:
    """Every piece where all fit into `max_bytes` of UTF-8, else those with the smallest hashes, halved until they fit.

    Which pieces are kept depends on their content only, so a corpus in another order trains the same tokenizer, and
    the sample of the samples of a corpus' parts is the sample of the corpus.

    limit: hashes from here on are left out from the start; a part that is known to be small beside the rest needs
        to keep no more than its share. A power of two, and no lower than the sample of the whole would go
    """
    kept: list[tuple[int, int, str]] = []
    total = 0
    for text in texts:
        for piece in pieces(text):
            rank, size = _rank(piece), len(piece.encode())
            if rank < limit:
                kept.append((rank, size, piece))
                total += size
        while total > max_bytes and len(kept) > 1:
            limit //= 2
            kept = [entry for entry in kept if entry[0] < limit] or [min(kept)]
            total = sum(size for _, size, _ in kept)
    return [piece for _, _, piece in kept]


def _rank(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"reforge sample").digest())
