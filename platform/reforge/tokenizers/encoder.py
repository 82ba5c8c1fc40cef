"""Text to ids for whole corpora: words that come again are looked up, the library encodes only new ones.

text --> units that the tokenizer treats alone --> known? ids of before
                                               '-> new: encoded together, remembered
"""

from array import array
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reforge.tokenizers.joined_words import JoinedWords
from reforge.tokenizers.morphemes import Morphemes, wants_morphemes
from reforge.tokenizers.units import units_of

_CACHE_BYTES = 256 << 20
_ENTRY_BYTES = 180  # of a dictionary entry, a str and a bytes object, beside their content


class Encoder:
    """A tokenizer's ids of text, without special tokens: what the text says about [MASK] is text.

    Text for a tokenizer that wants morphemes is cut into them here. Holds at most some 300 MB of words and their ids.
    One thread's worth of work; pickles as its tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, cache_bytes: int = _CACHE_BYTES) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._cut, self._library, self._words = units_of(self._tokenizer)
        self._model = self._library.model
        self._library.encode_special_tokens = True
        self._morphemes = Morphemes.of(tokenizer) if wants_morphemes(tokenizer) else None
        self._joined = JoinedWords(self._library) if JoinedWords.suits(self._library) else None
        self._known: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}
        self._cache_bytes, self._used_bytes = cache_bytes, 0

    @classmethod
    def from_file(cls, path: Path | str) -> "Encoder":
        """The encoder of a tokenizer.json, one in a process however often it is asked for."""
        stat = Path(path).stat()
        return _from_file(str(path), stat.st_mtime_ns, stat.st_size)

    def __reduce__(self) -> tuple[Callable[[str, int], "Encoder"], tuple[str, int]]:
        return _from_json, (self._tokenizer.to_str(), self._cache_bytes)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """The ids of each text."""
        if self._morphemes is not None:
            texts = [self._morphemes.mark(text) for text in texts]
        units = [self._cut(text) for text in texts]
        self._learn(list(self._unknown(set().union(*units))))
        known = self._known.__getitem__
        return [np.frombuffer(b"".join(map(known, found)), dtype=np.uint32) for found in units]

    def _unknown(self, units: set[str]) -> set[str]:
        """The units without known ids. What was not asked for since the cache was half full is forgotten."""
        if self._used_bytes > self._cache_bytes // 2:
            self._older, self._known, self._used_bytes = self._known, {}, 0
        new = units.difference(self._known)
        again = new.intersection(self._older)
        self._remember(again, [self._older[unit] for unit in again])
        return new.difference(again)

    def _learn(self, units: Sequence[str]) -> None:
        words = [self._words(unit) for unit in units]
        simple = [unit for unit, found in zip(units, words, strict=True) if found is not None]
        self._remember(simple, self._model_ids([found for found in words if found is not None]))
        others = [unit for unit, found in zip(units, words, strict=True) if found is None]
        encodings = self._library.encode_batch_fast(others, add_special_tokens=False)
        self._remember(others, [array("I", encoding.ids).tobytes() for encoding in encodings])

    def _model_ids(self, words: list[list[str]]) -> list[bytes]:
        """The ids that the model has for the words of each unit."""
        if self._joined is not None and words:
            return self._joined([word for [word] in words])
        tokenize = self._model.tokenize
        return [array("I", [token.id for word in found for token in tokenize(word)]).tobytes() for found in words]

    def _remember(self, units: Collection[str], contents: list[bytes]) -> None:
        self._known.update(zip(units, contents, strict=True))
        self._used_bytes += _ENTRY_BYTES * len(contents) + 3 * sum(map(len, units)) + sum(map(len, contents))


@lru_cache(maxsize=4)
def _from_file(path: str, mtime_ns: int, size: int) -> Encoder:
    return Encoder(Tokenizer.from_file(path))


def _from_json(text: str, cache_bytes: int) -> Encoder:
    return Encoder(Tokenizer.from_str(text), cache_bytes)
