"""What objectives need to know of a vocabulary beside its size.

Shapes: V vocabulary.
"""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reforge.tokenizers.byte_characters import BYTES
from reforge.tokenizers.metaspace import SPACE
from reforge.tokenizers.tokenizer import SPECIAL_TOKENS

SENTENCE_ENDS = frozenset(".!?。！？…")
_IN_WORDS = "LMN"  # Unicode's letters, marks and numbers


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Size of a vocabulary, which of its tokens go on with a word, and which end a sentence.

    num_special: the special tokens, which have the ids from 0 to num_special - 1
    """

    size: int
    continues_V: NDArray[np.bool_]
    ends_sentence_V: NDArray[np.bool_]
    num_special: int = len(SPECIAL_TOKENS)

    @property
    def document_end(self) -> int:
        """The id behind every document of a block: [EOD]'s where the vocabulary has it, else [SEP]'s."""
        return len(SPECIAL_TOKENS) if self.num_special > len(SPECIAL_TOKENS) else SPECIAL_TOKENS.index("[SEP]")

    @property
    def never_text(self) -> list[int]:
        """The special tokens that no text goes on with: all but `document_end`."""
        return [token_id for token_id in range(self.num_special) if token_id != self.document_end]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The vocabulary of `tokenizer`.

        A token goes on with a word where the model's prefix for that says so. Without such a prefix a word begins with
        its white space, so that letters without go on; signs are words by themselves, as in BERT.
        """
        parts = json.loads(tokenizer.to_str())
        num_special, prefix = _num_special(tokenizer), parts["model"].get("continuing_subword_prefix") or ""
        tokens = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
        text_of = _byte_text if '"ByteLevel"' in json.dumps([parts["pre_tokenizer"], parts["decoder"]]) else _text
        texts = [text_of(token.removeprefix(prefix)) for token in tokens]
        go_on: Callable[[str, str], bool] = _has_prefix(prefix) if prefix else _goes_on
        plain = np.arange(len(tokens)) >= num_special
        return cls(
            size=len(tokens),
            continues_V=plain & [go_on(token, text) for token, text in zip(tokens, texts, strict=True)],
            ends_sentence_V=plain & [text.rstrip()[-1:] in SENTENCE_ENDS for text in texts],
            num_special=num_special,
        )

    @classmethod
    def plain(cls, size: int) -> "Vocabulary":
        """A vocabulary of `size` tokens in which every token is a word and none ends a sentence."""
        return cls(size, np.zeros(size, dtype=bool), np.zeros(size, dtype=bool))


def _num_special(tokenizer: Tokenizer) -> int:
    """How many ids from 0 on are special tokens."""
    added = tokenizer.get_added_tokens_decoder()
    return sum(1 for _ in takewhile(lambda i: i in added and added[i].special, range(len(added))))


def _has_prefix(prefix: str) -> Callable[[str, str], bool]:
    return lambda token, text: token.startswith(prefix)


def _goes_on(token: str, text: str) -> bool:
    # A replacement character stands for bytes of a letter that other tokens begin or end.
    return text[:1] == "\ufffd" or unicodedata.category(text[:1] or " ")[0] in _IN_WORDS


def _text(token: str) -> str:
    return token.replace(SPACE, " ")


def _byte_text(token: str) -> str:
    return bytes(BYTES.get(char, 0x3F) for char in token).decode(errors="replace")
