"""Many words through a WordPiece model at once: as one text, whose ids are cut apart where a token begins a word.

[나는, 학교에, 갔다] -> "나는 학교에 갔다" -> 나 ##는 | 학교 ##에 | 갔다

A call for each word costs more than the model's own work on it.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from reforge.tokenizers.vocabulary import Vocabulary


class JoinedWords:
    """The ids of words, each of which is given to the model as it is."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        parts = json.loads(tokenizer.to_str())
        plain: dict[str, Any] = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "added_tokens": []}
        self._model = Tokenizer.from_str(json.dumps({**parts, **plain}))
        self._model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self._begins_V = ~Vocabulary.of(tokenizer).continues_V

    @staticmethod
    def suits(tokenizer: Tokenizer) -> bool:
        """Whether a tokenizer's ids tell where words begin: every word has one token without the prefix, its first."""
        return bool(json.loads(tokenizer.to_str())["model"]["type"] == "WordPiece")

    def __call__(self, words: Sequence[str]) -> list[bytes]:
        """The uint32 ids of each word; none may be empty or hold white space."""
        [encoding] = self._model.encode_batch_fast([" ".join(words)], add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.uint32)
        starts = np.flatnonzero(self._begins_V[ids])
        assert len(starts) == len(words)
        edges = (np.append(starts, len(ids)) * ids.itemsize).tolist()
        content = ids.tobytes()
        return [content[start:stop] for start, stop in pairwise(edges)]
