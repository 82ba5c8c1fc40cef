"""What objectives need to know of a vocabulary beside its size.

Shapes: V vocabulary.
"""

import json
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reforge.tokenizers.tokenizer import SPECIAL_TOKENS

SENTENCE_ENDS = frozenset(".!?。！？…")


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
        """The vocabulary of `tokenizer`; a token goes on with a word where the model's prefix for that says so."""
        prefix = json.loads(tokenizer.to_str())["model"].get("continuing_subword_prefix") or ""
        tokens = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
        return cls(
            size=len(tokens),
            continues_V=np.array([bool(prefix) and token.startswith(prefix) for token in tokens]),
            ends_sentence_V=np.array([token.removeprefix(prefix) in SENTENCE_ENDS for token in tokens]),
            num_special=_num_special(tokenizer),
        )

    @classmethod
    def plain(cls, size: int) -> "Vocabulary":
        """A vocabulary of `size` tokens in which every token is a word and none ends a sentence."""
        return cls(size, np.zeros(size, dtype=bool), np.zeros(size, dtype=bool))


def _num_special(tokenizer: Tokenizer) -> int:
    """How many ids from 0 on are special tokens."""
    added = tokenizer.get_added_tokens_decoder()
    return sum(1 for _ in takewhile(lambda i: i in added and added[i].special, range(len(added))))
