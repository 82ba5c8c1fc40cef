"""Where a tokenizer's text can be cut so that each part encodes to the ids that it has in the whole.

Decided by the tokenizer's own JSON: only shapes named here are cut, all others are encoded whole.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

Cut = Callable[[str], list[str]]

# The library's white space is Unicode's; Python's has the separators 0x1c to 0x1f besides.
_SPACE = r"[^\S\x1c-\x1f]"
_BETWEEN_SPACES = re.compile(r"[\S\x1c-\x1f]+")
_WITH_SPACE_BEFORE = re.compile(rf"{_SPACE}*[\S\x1c-\x1f]+|{_SPACE}+")
# Control characters are removed before words are told apart, and these are white space to Python.
_REMOVED_BY_BERT = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
_BERT_WORDS = re.compile(r"[^ \n\t\r]+")


def unit_cutter(tokenizer: Tokenizer) -> tuple[Cut, Tokenizer]:
    """A function from a text to its units, and the tokenizer whose ids of the units joined are those of the text."""
    parts = json.loads(tokenizer.to_str())
    if any(not token["special"] for token in parts["added_tokens"]):
        return _whole, tokenizer
    normalizers, pre_tokenizers = (
        _flat(parts["normalizer"], "normalizers"),
        _flat(parts["pre_tokenizer"], "pretokenizers"),
    )
    if [step["type"] for step in pre_tokenizers] == ["BertPreTokenizer"] and _like_bert(normalizers):
        return _bert_words, tokenizer
    return _whole, tokenizer


def _flat(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer."""
    if part is None:
        return []
    return list(part[name]) if part["type"] == "Sequence" else [part]


def _like_bert(normalizers: list[dict[str, Any]]) -> bool:
    return [step["type"] for step in normalizers] in (["BertNormalizer"], ["NFC", "BertNormalizer"]) and bool(
        normalizers[-1]["clean_text"]
    )


def _whole(text: str) -> list[str]:
    return [text]


def _bert_words(text: str) -> list[str]:
    return _BERT_WORDS.findall(text) if _REMOVED_BY_BERT.search(text) else text.split()
