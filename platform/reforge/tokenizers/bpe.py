"""Byte pair encoding of characters: pieces of words, numbers or signs, joined in the order in which they were found.

text -- NFC --> words with the space before them --> letters and digits apart from signs --> pieces --> ids

All white space is text, so what was encoded can be restored: only a space at the very beginning is lost.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from reforge.tokenizers.merges import bpe_model, grow
from reforge.tokenizers.metaspace import SPACE, metaspace, metaspace_decoder
from reforge.tokenizers.trained import GrownOptions, check_room, count_characters, find_alphabet

# White space that is no space, or a run of signs with the space before it.
APART = rf"[^\S ]+|{SPACE}?[^\s\p{{L}}\p{{M}}\p{{N}}{SPACE}]+"


class BPE(GrownOptions):
    """A byte pair encoding of characters trained on a sample of the text.

    min_frequency: how often a pair of pieces must stand in the sample to become a token
    limit_alphabet: keep only the most frequent characters; each other one becomes [UNK]
    """

    kind: Literal["bpe"] = "bpe"
    min_frequency: int = Field(default=2, ge=1)
    limit_alphabet: int | None = Field(default=None, ge=1)

    def train_on(self, sampled: list[str], special_tokens: Sequence[str]) -> Tokenizer:
        empty = self.assemble([*special_tokens], len(special_tokens))
        assert empty.normalizer is not None
        alphabet = find_alphabet(empty.normalizer, sampled, self.limit_alphabet)
        spaces = {char for char in count_characters(empty.normalizer, sampled) if char.isspace() and char != " "}
        start = sorted({*alphabet.kept, *spaces, SPACE})
        hint = f", or tokenizer.limit_alphabet below {max(2, self.vocab_size // 3)} (rarer characters become [UNK])"
        check_room(self.vocab_size, len(special_tokens), len(start), f"{alphabet}{len(start)} of them", hint)
        tokens = grow(empty, sampled, special_tokens, start, self.vocab_size, self.min_frequency)
        return self.assemble(tokens, len(special_tokens))

    def assemble(self, tokens: list[str], num_special: int) -> Tokenizer:
        tokenizer = Tokenizer(bpe_model(tokens, num_special, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.NFC()
        apart = pre_tokenizers.Split(Regex(APART), "isolated")
        tokenizer.pre_tokenizer = metaspace(self.pretokenize == "mecab", apart)
        tokenizer.decoder = metaspace_decoder()
        tokenizer.add_special_tokens(tokens[:num_special])
        return tokenizer
