"""What is done to every document of every corpus, and which documents are dropped: the `data.clean:` section of a spec.

Document -> valid Unicode -> its normal form -> white space -> length and script -> Document or None, counted by reason
"""

import functools
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reforge.corpora.corpus import Document
from reforge.corpora.tally import Tally
from reforge.spec import Part, Problem

_HALF = 0.5
_OTHER, _HANGUL, _LATIN = 1, 2, 3
_HANGUL_BLOCKS = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF))
_LATIN_BLOCKS = ((0x00, 0x24F), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xFF21, 0xFF5A))


class NearDuplicates(Part):
    """When two texts are nearly the same: by the runs of words that they share, estimated with MinHash.

    threshold: least Jaccard similarity of the two sets of runs, above which the later document is dropped
    num_permutations: of MinHash; the estimate's standard error at 0.8 is 0.035 with 128 and halves with four times more
    shingle_words: words in a run; 5 is for documents, 1 to 3 suit corpora of single sentences
    """

    threshold: float = Field(default=0.8, ge=0.5, le=1.0)
    num_permutations: int = Field(default=128, ge=16, le=1024)
    shingle_words: int = Field(default=5, ge=1, le=100)


class Cleaning(Part):
    """What is done to every document, and which are dropped; a corpus's own options come before.

    normalize: Unicode's normal form. `nfc` composes Hangul syllables and accents; `nfkc` also makes full-width letters,
        ligatures and the like ordinary ones; `none` leaves what the corpus's reader gives
    whitespace: `collapse` makes runs of white space within a line one space and leaves out blank lines
    min_chars: documents that are shorter after the above are dropped
    script: keep documents in Korean (`hangul`) or in a language in Latin letters (`latin`) only. One side of a parallel
        corpus is chosen by the corpus's `side`
    min_script_share: the least share of `script` among a document's letters
    duplicates: `exact` drops a document whose text is that of an earlier one, `near` also one that hardly differs.
        Documents to which the corpus gives the same key are always reduced to the first
    near: what `duplicates: near` means
    """

    normalize: Literal["nfc", "nfkc", "none"] = "nfc"
    whitespace: Literal["keep", "collapse"] = "keep"
    min_chars: int = Field(default=1, ge=1)
    script: Literal["any", "hangul", "latin"] = "any"
    min_script_share: float = Field(default=_HALF, gt=0, le=1)
    duplicates: Literal["keep", "exact", "near"] = "keep"
    near: NearDuplicates = NearDuplicates()

    def problems(self) -> Iterator[Problem]:
        if self.duplicates != "near" and self.near != NearDuplicates():
            yield Problem(("near",), f"is for duplicates: near; duplicates is {self.duplicates}")
        if self.script == "any" and self.min_script_share != _HALF:
            yield Problem(("min_script_share",), "is for script: hangul or latin; script is any", self.min_script_share)


def clean(document: Document, options: Cleaning, tally: Tally) -> Document | None:
    """The cleaned document, or None where it is dropped; its reader counted it in `tally` as kept."""
    text = _normalized(_encodable(document.text, tally), options.normalize, tally)
    if options.whitespace == "collapse":
        text = _collapsed(text, tally)
    reason = _why_dropped(text, options)
    if reason is not None:
        tally.take_back(document.text, reason)
        return None
    if text is document.text:
        return document
    tally.replace(document.text, text)
    return document._replace(text=text)


def _encodable(text: str, tally: Tally) -> str:
    """The text without halves of surrogate pairs, which JSON can write but no file of text can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        tally.fix("half a surrogate pair replaced")
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _normalized(text: str, form: Literal["nfc", "nfkc", "none"], tally: Tally) -> str:
    if form == "none" or text.isascii():
        return text
    name: Literal["NFC", "NFKC"] = "NFC" if form == "nfc" else "NFKC"
    if unicodedata.is_normalized(name, text):
        return text
    tally.fix(f"not in {name}")
    return unicodedata.normalize(name, text)


def _collapsed(text: str, tally: Tally) -> str:
    lines = (" ".join(line.split()) for line in text.splitlines())
    collapsed = "\n".join(line for line in lines if line)
    if collapsed == text:
        return text
    tally.fix("white space collapsed")
    return collapsed


def _why_dropped(text: str, options: Cleaning) -> str | None:
    if len(text.strip()) < options.min_chars:
        return "empty" if options.min_chars == 1 else f"shorter than {options.min_chars} characters"
    if options.script != "any" and script_share(text, options.script) < options.min_script_share:
        return f"less than {options.min_script_share:.0%} of the letters are {options.script.capitalize()}"
    return None


def script_share(text: str, script: Literal["hangul", "latin"]) -> float:
    """The share of a script among the letters of a text; 0 where it has none."""
    if text.isascii():
        return float(script == "latin" and any(map(str.isalpha, text)))
    units = np.frombuffer(text.encode("utf-16-le"), "<u2")
    counts = np.bincount(_letter_classes()[units], minlength=4)
    letters = counts[_OTHER] + counts[_HANGUL] + counts[_LATIN]
    return float(counts[_HANGUL if script == "hangul" else _LATIN] / max(1, letters))


@functools.cache
def _letter_classes() -> NDArray[np.uint8]:
    """The class of each character of the Basic Multilingual Plane: 0 is no letter."""
    classes: NDArray[Any] = np.array([unicodedata.category(chr(code))[0] == "L" for code in range(1 << 16)], np.uint8)
    for script, blocks in ((_HANGUL, _HANGUL_BLOCKS), (_LATIN, _LATIN_BLOCKS)):
        for first, last in blocks:
            classes[first : last + 1] *= script
    return classes
