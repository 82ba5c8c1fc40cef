"""GPT-2's byte-level byte pair encoding: bytes of UTF-8 joined to pieces, so that no text is unknown.

text --> words, numbers and signs with the space before them --> bytes --> pieces --> ids

The text is encoded as it is, so decomposed text stays decomposed, and decoding restores every character.
Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from tokenizers import Tokenizer, decoders, pre_tokenizers

from reforge.tokenizers.merges import bpe_model, grow
from reforge.tokenizers.metaspace import split_morphemes
from reforge.tokenizers.trained import GrownOptions, check_room


class ByteBPE(GrownOptions):
    """A byte pair encoding of UTF-8 trained on a sample of the text.

    min_frequency: how often a pair of pieces must stand in the sample to become a token
    """

    kind: Literal["byte_bpe"] = "byte_bpe"
    min_frequency: int = Field(default=2, ge=1)

    composes: ClassVar[bool] = False
    base_name: ClassVar[str] = "bytes"

    def train_on(self, sampled: list[str], special_tokens: Sequence[str]) -> Tokenizer:
        num_special = len(special_tokens)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        check_room(self.vocab_size, num_special, len(alphabet), f"{len(alphabet)} bytes")
        empty = self.assemble([*special_tokens], num_special)
        tokens = grow(empty, sampled, special_tokens, alphabet, self.vocab_size, self.min_frequency)
        return self.assemble(tokens, num_special)

    def assemble(self, tokens: list[str], num_special: int) -> Tokenizer:
        tokenizer = Tokenizer(bpe_model(tokens, num_special, unk_token=None))
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        morphemes = split_morphemes(self.pretokenize == "mecab")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*morphemes, words]) if morphemes else words
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(tokens[:num_special])
        return tokenizer
