"""Morphemes of Korean text by mecab-ko, marked in the text so that a tokenizer can hold to them.

    학교에서 갔다 --> 학교|에서 갔|다        | is JOINER

A tokenizer that wants morphemes names JOINER in its pre-tokenizer or normalizer; `Encoder` marks the text for it.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer, normalizers

from reforge.spec import UserError

JOINER = "\ufdd0"  # a noncharacter: Unicode keeps it out of text for uses like this
_REPLACEMENT = "\ufffd"
_CHUNK_CHARS = 2000  # mecab's time and memory for a line grow faster than the line
_SPACE_TO_MECAB = " \t\n\r"
_WORDS = re.compile(r"[^ \t\n\r]+")
_JAMO = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")


def wants_morphemes(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer's text has to be marked before it is encoded."""
    parts = json.loads(tokenizer.to_str())
    return JOINER in json.dumps([parts["normalizer"], parts["pre_tokenizer"]], ensure_ascii=False)


class Morphemes:
    """Marks where morphemes meet within words.

    compose: whether text is brought into NFC before, as the tokenizer does; in decomposed text, which mecab does not
        know, words stay whole otherwise
    """

    def __init__(self, compose: bool) -> None:
        self._spans = _spans()
        self._normalizer = normalizers.NFC() if compose else None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Morphemes":
        """As a tokenizer wants them."""
        return cls(compose='"NFC"' in json.dumps(json.loads(tokenizer.to_str())["normalizer"]))

    def mark(self, text: str) -> str:
        """The text with a JOINER between the morphemes of each word; one that was in the text is U+FFFD."""
        text = text.replace(JOINER, _REPLACEMENT)
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        return "".join(self._marked(chunk) for chunk in _chunks(text))

    def _marked(self, chunk: str) -> str:
        # For mecab a text ends at its first NUL.
        spans = self._spans(chunk.replace("\0", _REPLACEMENT))
        if sum(end - start for start, end in spans) != len(chunk) - sum(map(chunk.count, _SPACE_TO_MECAB)):
            return _WORDS.sub(lambda word: self._marked_word(word[0]), chunk)
        return _joined(chunk, spans)

    def _marked_word(self, word: str) -> str:
        """A word by itself; whole where its morphemes do not spell it."""
        spans = self._spans(word.replace("\0", _REPLACEMENT))
        return _joined(word, spans) if sum(end - start for start, end in spans) == len(word) else word


def _joined(text: str, spans: list[tuple[int, int]]) -> str:
    cuts = [end for (_, end), (start, _) in pairwise(spans) if end == start and _separable(text[end - 1], text[end])]
    return JOINER.join(text[start:end] for start, end in pairwise([0, *cuts, len(text)]))


def _separable(left: str, right: str) -> bool:
    """Whether two characters are of different morphemes where mecab says so, and not halves of one letter."""
    if left.isspace() or right.isspace():
        return False
    return not (unicodedata.category(right)[0] == "M" or (_JAMO.match(left) and _JAMO.match(right)))


def _chunks(text: str) -> Iterator[str]:
    """Lines with their ends; long ones cut at a space, or anywhere where there is none."""
    for line in text.splitlines(keepends=True):
        start = 0
        while len(line) - start > _CHUNK_CHARS:
            end = line.rfind(" ", start + _CHUNK_CHARS // 2, start + _CHUNK_CHARS) + 1 or start + _CHUNK_CHARS
            yield line[start:end]
            start = end
        yield line[start:]


@cache
def _spans() -> Any:
    """A function from a line to the spans of its morphemes; raises UserError where mecab is not installed."""
    try:
        import _mecab  # type: ignore[import-not-found]
        from mecab import MeCab  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise UserError(
            "pretokenize: mecab needs python-mecab-ko, which is not installed: pip install 'reforge[mecab]'"
        ) from error
    tagger = MeCab()._tagger

    def spans(line: str) -> list[tuple[int, int]]:
        lattice = _mecab.Lattice()
        lattice.add_request_type(_mecab.MECAB_ALLOCATE_SENTENCE)
        lattice.set_sentence(line)
        return [span for span, _ in lattice] if tagger.parse(lattice) else []

    return spans
