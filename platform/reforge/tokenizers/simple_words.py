"""What a tokenizer's model gets of a simple unit: composed Hangul, ASCII letters, digits and signs.

Most new words are simple, and the model by itself takes a fraction of the time of normalizer, pre-tokenizer and model.
A function here gives the words that the model would be given, or None where the library has to say.
"""

import re
from collections.abc import Callable

from reforge.tokenizers.byte_characters import BYTE_CHARACTERS
from reforge.tokenizers.metaspace import SPACE

Words = Callable[[str], list[str] | None]

_LETTERS = "가-힣A-Za-z"
_SIGNS = r"!-/:-@\\-`{-~"  # without [, which may begin what looks like a special token
_BERT = re.compile(rf"[{_LETTERS}0-9]+|[!-/:-@\[-`{{-~]")
_BERT_LOWER = re.compile(r"[가-힣a-z0-9]+|[!-/:-@\[-`{-~]")
_SPACED = re.compile(rf"[{_LETTERS}0-9{_SIGNS}]+")
_SIMPLE_BEHIND_SPACE = re.compile(rf" ?[{_LETTERS}0-9{_SIGNS}]+")
_APART = re.compile(rf"{SPACE}?[{_LETTERS}0-9]+|{SPACE}?[{_SIGNS}]+")
_COMPOSED = re.compile(r"[\x00-\x7f가-힣]+")
_NO_QUOTE = _SIGNS.replace("!-/", "!-&(-/")
_SIMPLE_BYTES = re.compile(rf" ?[{_LETTERS}0-9{_NO_QUOTE}]+")
_BYTE_WORDS = re.compile(rf" ?[{_LETTERS}]+| ?[0-9]+| ?[{_NO_QUOTE}]+")


def never(unit: str) -> None:
    """No unit is simple."""


def of_bert(lowercase: bool) -> Words:
    """Of units between white space and signs."""
    simple = (_BERT_LOWER if lowercase else _BERT).fullmatch
    return lambda unit: [unit] if simple(unit) else None


def of_unigram(unit: str) -> list[str] | None:
    """Of units between white space."""
    return [SPACE + unit] if _SPACED.fullmatch(unit) else None


def of_bpe(unit: str) -> list[str] | None:
    """Of units with their space before them."""
    return _APART.findall(unit.replace(" ", SPACE)) if _SIMPLE_BEHIND_SPACE.fullmatch(unit) else None


def of_characters(unit: str) -> list[str] | None:
    """Of any units."""
    return [unit] if _COMPOSED.fullmatch(unit) else None


def of_bytes(unit: str) -> list[str] | None:
    """Of units with their space before them; an apostrophe has rules of its own."""
    if not _SIMPLE_BYTES.fullmatch(unit):
        return None
    return ["".join(map(BYTE_CHARACTERS.__getitem__, word.encode())) for word in _BYTE_WORDS.findall(unit)]
