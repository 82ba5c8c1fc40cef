"""What the tokenizers that are trained on text have in common: the sample, the alphabet, and their smaller sizes.

texts --> sample --> morphemes marked (mecab) --> very long words cut --> alphabet --> tokens, most important first
"""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from pydantic import Field
from tokenizers import Tokenizer
from tokenizers.normalizers import Normalizer

from reforge.spec import UserError
from reforge.tokenizers.morphemes import JOINER, Morphemes
from reforge.tokenizers.sample import sample
from reforge.tokenizers.tokenizer import SPECIAL_TOKENS, TokenizerOptions

_MIB = 1 << 20
# A word without end costs a trainer time that grows with its length times the vocabulary.
_LONG_WORD = re.compile(r"\S{256}(?=\S)")


class Alphabet(NamedTuple):
    """The characters that a vocabulary starts from, sorted, and how many the text has."""

    kept: list[str]
    num_found: int

    def __str__(self) -> str:
        limited = f", limit_alphabet keeps {len(self.kept)}" if len(self.kept) < self.num_found else ""
        return f"the text has {self.num_found} different characters{limited}; "


class TrainedOptions(TokenizerOptions):
    """A tokenizer trained on a sample of the text.

    sample_mib: at most this much text is trained on, chosen evenly by document
    """

    vocab_size: int = Field(default=16000, ge=len(SPECIAL_TOKENS) + 1, le=2**24)
    sample_mib: int = Field(default=64, ge=1, le=1024)

    composes: ClassVar[bool] = True  # whether text is brought into NFC

    @property
    def sample_bytes(self) -> int:
        return self.sample_mib * _MIB

    def train(self, texts: Iterable[str], special_tokens: Sequence[str] = SPECIAL_TOKENS) -> Tokenizer:
        sampled = sample(texts, self.sample_bytes)
        if self.pretokenize == "mecab":
            morphemes = Morphemes(self.composes)
            sampled = [morphemes.mark(text) for text in sampled]
        return self.train_on([_LONG_WORD.sub(r"\g<0> ", text) for text in sampled], special_tokens)

    @abstractmethod
    def train_on(self, sampled: list[str], special_tokens: Sequence[str]) -> Tokenizer:
        """Train on all of these texts, in which morphemes are marked if they count."""


class GrownOptions(TrainedOptions):
    """A vocabulary that grows token by token, so that a smaller one is the beginning of a larger one."""

    shrinks: ClassVar[bool] = True
    base_name: ClassVar[str] = "single characters"  # what the smallest tokens are, for messages

    @abstractmethod
    def assemble(self, tokens: list[str], num_special: int) -> Tokenizer:
        """The tokenizer that has these tokens by their ids, of which the first are special."""

    def shrink(self, tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
        num_special = len(special_tokens_of(tokenizer))
        tokens = tokens_of(tokenizer)
        num_base = sum(map(self.is_base, tokens[num_special:]))
        check_room(vocab_size, num_special, num_base, f"{num_base} {self.base_name}")
        return self.assemble(tokens[:vocab_size], num_special)

    def is_base(self, token: str) -> bool:
        """Whether a token is there before the first one is made of others."""
        return len(token) == 1


def check_room(vocab_size: int, num_special: int, num_base: int, base_name: str, hint: str = "") -> None:
    """Raise UserError where the smallest tokens leave a vocabulary no room for a single longer one."""
    needed = num_special + num_base
    if vocab_size <= needed:
        raise UserError(
            f"tokenizer.vocab_size {vocab_size} is too small for the alphabet: {base_name} and {num_special} special "
            f"tokens need {needed} tokens before the first longer piece. Set tokenizer.vocab_size above {needed}{hint}"
        )


def find_alphabet(normalizer: Normalizer, texts: Iterable[str], limit: int | None = None) -> Alphabet:
    """The characters of normalized texts without white space, sorted; with a limit only the most frequent ones."""
    counts = count_characters(normalizer, texts)
    by_count = [char for char in most_frequent(counts) if not char.isspace()]
    return Alphabet(sorted(by_count[:limit]), len(by_count))


def count_characters(normalizer: Normalizer, texts: Iterable[str]) -> Counter[str]:
    """How often each character stands in the normalized texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    del counts[JOINER]
    return counts


def most_frequent(counts: Counter[str]) -> list[str]:
    """All characters, the most frequent first and equals in Unicode's order."""
    return sorted(counts, key=lambda char: (-counts[char], char))


def tokens_of(tokenizer: Tokenizer) -> list[str]:
    """All tokens by their ids."""
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def special_tokens_of(tokenizer: Tokenizer) -> list[str]:
    """The special tokens by their ids."""
    return [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items()) if token.special]
