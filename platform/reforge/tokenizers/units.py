"""Where a tokenizer's text can be cut so that each part encodes to the ids that it has in the whole.

    BERT        |학교에서| |갔다|.|           between white space, signs apart
    unigram     |학교에서| |갔다.|            between white space, which is one space wherever it stands
    Metaspace   | 학교에서| 갔다.|\n 그|     before white space; the text's first word has its space written out
    byte level  |학교에서| 갔다.|\n 그|      before white space

Decided by the tokenizer's own JSON: only what is named here is cut, every other text is one unit.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tokenizers import Tokenizer, models

from reforge.tokenizers.bert import bert_tokenizer
from reforge.tokenizers.bpe import APART
from reforge.tokenizers.metaspace import SPACE, one_space_normalizer
from reforge.tokenizers.morphemes import JOINER
from reforge.tokenizers.simple_words import Words, never, of_bert, of_bpe, of_bytes, of_characters, of_unigram

Cut = Callable[[str], list[str]]
Step = dict[str, Any]

# The library's white space is Unicode's; Python's has the separators 0x1c to 0x1f besides.
_SPACE, _INK = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"
_BETWEEN = re.compile(f"{_INK}+")
_BEFORE = re.compile(f"{_SPACE}*{_INK}+|{_SPACE}+")
_BEFORE_SPACE = re.compile(" [^ ]*|[^ ]+")
_SEPARATORS = re.compile(r"[\x1c-\x1f]")
# Of the signs of ASCII, which are words by themselves, < = > have compositions with what follows.
_BERT_UNITS = re.compile(r"[!-/:;?@\[-`{-~]|[^ \n\t\r!-/:;?@\[-`{-~]+")
_PLAIN = (None, {"type": "NFC"})  # normalizers that change no white space


class Units(NamedTuple):
    """How a tokenizer's text is cut.

    cut: a text's units
    library: the tokenizer whose ids of the units joined are those of the text
    words: what its model gets of a unit, where that is simple
    """

    cut: Cut
    library: Tokenizer
    words: Words


def units_of(tokenizer: Tokenizer) -> Units:
    """The units of a tokenizer's text."""
    parts = json.loads(tokenizer.to_str())
    steps = _steps(parts["pre_tokenizer"], "pretokenizers")
    if any(not token["special"] for token in parts["added_tokens"]):
        return Units(_whole, tokenizer, never)
    if _is_bert(parts, steps):
        return Units(_BERT_UNITS.findall, tokenizer, _simple_bert(_steps(parts["normalizer"], "normalizers")))
    if parts["normalizer"] in _PLAIN and _is_byte_level(steps):
        return Units(_BEFORE.findall, tokenizer, of_bytes)
    if parts["normalizer"] in _PLAIN and not steps and parts["model"].get("merges") == []:
        return Units(_BEFORE.findall, tokenizer, of_characters)
    if steps and _is_metaspace(steps[0]):
        return _metaspace_units(tokenizer, parts, steps)
    return Units(_whole, tokenizer, never)


def _metaspace_units(tokenizer: Tokenizer, parts: Step, steps: list[Step]) -> Units:
    """Whatever steps follow, they see one word."""
    further = [step.get("pattern", {}).get("Regex", "") for step in steps[1:]]
    further = [pattern for pattern in further if pattern != f"{JOINER}+"]
    if parts["normalizer"] == _written(one_space_normalizer()):
        is_ours = len(further) == 1 and further[0].startswith(rf"{SPACE}?(?:\[")
        return Units(_words, tokenizer, of_unigram if is_ours else never)
    if parts["normalizer"] not in _PLAIN:
        return Units(_whole, tokenizer, never)
    steps[0]["prepend_scheme"] = "never"
    written = Tokenizer.from_str(json.dumps(parts))
    if further == [APART]:  # which ends words at other white space too
        return Units(_with_first_space(_BEFORE), written, of_bpe)
    return Units(_with_first_space(_BEFORE_SPACE), written, never)


def _steps(part: Step | None, name: str) -> list[Step]:
    """The steps of a normalizer or pre-tokenizer."""
    if part is None:
        return []
    return list(part[name]) if part["type"] == "Sequence" else [part]


def _is_bert(parts: Step, steps: list[Step]) -> bool:
    morphemes = JOINER in json.dumps(parts["normalizer"], ensure_ascii=False)
    for lowercase in (False, True):
        ours = json.loads(bert_tokenizer(models.WordPiece(), lowercase, morphemes).to_str())
        if parts["normalizer"] == ours["normalizer"] and parts["pre_tokenizer"] == ours["pre_tokenizer"]:
            return True
    normalizing = _steps(parts["normalizer"], "normalizers")
    return (
        [step["type"] for step in steps] == ["BertPreTokenizer"]
        and [step["type"] for step in normalizing] == ["BertNormalizer"]
        and bool(normalizing[0]["clean_text"])
    )


def _simple_bert(normalizing: list[Step]) -> Words:
    (bert,) = (step for step in normalizing if step["type"] == "BertNormalizer")
    strips = bert["lowercase"] if bert["strip_accents"] is None else bert["strip_accents"]
    return never if strips else of_bert(bert["lowercase"])  # stripping takes Hangul apart


def _is_byte_level(steps: list[Step]) -> bool:
    if len(steps) == 2 and steps[0]["type"] == "Split" and steps[0]["pattern"] == {"Regex": f"{JOINER}+"}:
        steps = steps[1:]
    return (
        [step["type"] for step in steps] == ["ByteLevel"]
        and not steps[0]["add_prefix_space"]
        and bool(steps[0]["use_regex"])
    )


def _is_metaspace(step: Step) -> bool:
    return step == {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}


def _written(part: Any) -> Any:
    return json.loads(part.__getstate__())


def _whole(text: str) -> list[str]:
    return [text] if text else []


def _words(text: str) -> list[str]:
    if SPACE in text:  # at the start of a word it would stand in for the word's space
        return [text]
    return _BETWEEN.findall(text) if _SEPARATORS.search(text) else text.split()


def _with_first_space(pattern: re.Pattern[str]) -> Cut:
    """Cut a text whose first word has a space before it, as the tokenizer would write one."""

    def cut(text: str) -> list[str]:
        return pattern.findall(text if not text or text[0] in (" ", SPACE) else f" {text}")

    return cut
