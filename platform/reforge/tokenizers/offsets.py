"""Text to token ids and where each token stands in the text: what tags and answers, which count characters, need.

text --marked, where morphemes are wanted--> library: ids, spans in the marked text --> spans in the text --> Pieces

The library gives a composed character the place of its first code point alone, and a word the white space before it.
Here spans take in what combines with their last character, and leave out white space.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from reforge.tokenizers.characters import Characters, Ints, places_in_text
from reforge.tokenizers.metaspace import SPACE
from reforge.tokenizers.morphemes import Morphemes, wants_morphemes

_CHUNK_TEXTS = 4096
_BYTE_SPACE = "Ġ"  # a space in the tokens of byte-level models


class Pieces(NamedTuple):
    """The tokens of a text, P of them: `starts` and `ends` count its characters, and neither ever falls.

    Tokens that are bytes of one character all have its span. A token of white space alone has the white space's, and
    one that stands for nothing in the text an empty one.
    """

    ids: NDArray[np.uint32]
    starts: Ints
    ends: Ints


class OffsetEncoder:
    """A tokenizer's ids of text, the same as `Encoder`'s, with each token's span in the text as it was given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._library = Tokenizer.from_str(tokenizer.to_str())
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = True
        self._morphemes = Morphemes.of(tokenizer) if wants_morphemes(tokenizer) else None
        written = (self._library.token_to_id(token) for token in (SPACE, _BYTE_SPACE))
        self._space_ids = [token for token in written if token is not None]

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens; what a text says about [MASK] is text."""
        chunks = (texts[start : start + _CHUNK_TEXTS] for start in range(0, len(texts), _CHUNK_TEXTS))
        return [pieces for chunk in chunks for pieces in self._chunk(chunk)]

    def _chunk(self, texts: Sequence[str]) -> Iterator[Pieces]:
        marked = texts if self._morphemes is None else [self._morphemes.mark(text) for text in texts]
        encodings = self._library.encode_batch(list(marked), add_special_tokens=False)
        edges = [0, *accumulate(map(len, encodings))]
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.uint32, edges[-1])
        spans_P2 = np.fromiter(_numbers(encodings), np.int64, 2 * edges[-1]).reshape(-1, 2)
        if self._morphemes is not None:
            for text, copy, (start, stop) in zip(texts, marked, pairwise(edges), strict=True):
                spans_P2[start:stop] = _unmarked(spans_P2[start:stop], text, copy)
        bases = np.repeat([0, *accumulate(map(len, texts))][:-1], np.diff(edges))
        limits = np.repeat(list(accumulate(map(len, texts))), np.diff(edges))
        starts, ends = self._mended("".join(texts), ids, spans_P2 + bases[:, None], limits)
        starts, ends = starts - bases, ends - bases
        for start, stop in pairwise(edges):
            yield Pieces(ids[start:stop], starts[start:stop], ends[start:stop])

    def _mended(self, text: str, ids: NDArray[np.uint32], spans_P2: Ints, limits: Ints) -> tuple[Ints, Ints]:
        """Starts and ends: in order, up to `limits` with what combines, without white space around."""
        characters = Characters(text)
        starts = np.maximum.accumulate(spans_P2[:, 0])
        ends = np.maximum(np.maximum.accumulate(spans_P2[:, 1]), starts)
        nexts = np.append(starts, len(text))[1:]
        reach = np.minimum(np.minimum(characters.cluster_ends()[ends], limits), np.maximum(nexts, ends))
        ends = np.where(starts < ends, reach, ends)
        inked = np.minimum(characters.ink_starts()[starts], ends)
        # A space that the tokenizer itself wrote before a word stands nowhere.
        written = np.isin(ids, self._space_ids) & (inked < ends) & ~characters.are(SPACE)[inked]
        ends = np.where(inked < ends, np.maximum(characters.ink_ends()[ends], inked), ends)
        starts = np.where(inked < ends, inked, starts)
        return starts, np.where(written, starts, ends)


def _numbers(encodings: Sequence[Encoding]) -> Iterator[int]:
    return chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))


def _unmarked(spans_P2: Ints, text: str, copy: str) -> Ints:
    """Spans in a marked copy as spans in the text."""
    starts, ends = places_in_text(text, copy)
    is_empty = spans_P2[:, 0] == spans_P2[:, 1]
    first = starts[spans_P2[:, 0]]
    last = ends[np.maximum(spans_P2[:, 1] - 1, 0)]
    return np.stack([first, np.where(is_empty, first, np.maximum(first, last))], axis=1)
