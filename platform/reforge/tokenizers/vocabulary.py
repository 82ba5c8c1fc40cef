"""What objectives need to know of a vocabulary beside its size.

Shapes: V vocabulary.
"""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

SENTENCE_ENDS = frozenset(".!?。！？…")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Size of a vocabulary, which of its tokens go on with a word, and which end a sentence."""

    size: int
    continues_V: NDArray[np.bool_]
    ends_sentence_V: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The vocabulary of `tokenizer`; a token goes on with a word where the model's prefix for that says so."""
        prefix = json.loads(tokenizer.to_str())["model"].get("continuing_subword_prefix") or ""
        tokens = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
        return cls(
            size=len(tokens),
            continues_V=np.array([bool(prefix) and token.startswith(prefix) for token in tokens]),
            ends_sentence_V=np.array([token.removeprefix(prefix) in SENTENCE_ENDS for token in tokens]),
        )

    @classmethod
    def plain(cls, size: int) -> "Vocabulary":
        """A vocabulary of `size` tokens in which every token is a word and none ends a sentence."""
        return cls(size, np.zeros(size, dtype=bool), np.zeros(size, dtype=bool))
