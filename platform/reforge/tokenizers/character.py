"""Characters as tokens: the most frequent ones of the text, white space among them.

text -- NFC --> characters --> ids
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field
from tokenizers import Tokenizer, decoders, models, normalizers

from reforge.spec import Problem
from reforge.tokenizers.tokenizer import SPECIAL_TOKENS
from reforge.tokenizers.trained import GrownOptions, count_characters, most_frequent


class Character(GrownOptions):
    """A vocabulary of the most frequent characters of the text; each other one becomes [UNK]."""

    kind: Literal["character"] = "character"
    vocab_size: int = Field(default=4000, ge=len(SPECIAL_TOKENS) + 1, le=2**24)

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.pretokenize != "none":
            rule = "must be none for characters, which are the same with and without morphemes"
            yield Problem(("pretokenize",), rule, got=self.pretokenize)

    def train_on(self, sampled: list[str], special_tokens: Sequence[str]) -> Tokenizer:
        empty = self.assemble([*special_tokens], len(special_tokens))
        assert empty.normalizer is not None
        characters = most_frequent(count_characters(empty.normalizer, sampled))
        return self.assemble([*special_tokens, *characters][: self.vocab_size], len(special_tokens))

    def is_base(self, token: str) -> bool:
        return False  # any number of characters is a vocabulary

    def assemble(self, tokens: list[str], num_special: int) -> Tokenizer:
        # Byte pair encoding without a pair to join.
        model = models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="[UNK]")
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.decoder = decoders.Fuse()
        tokenizer.add_special_tokens(tokens[:num_special])
        return tokenizer
