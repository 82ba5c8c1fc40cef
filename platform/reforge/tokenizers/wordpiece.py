"""BERT's WordPiece: words cut into the longest pieces of the vocabulary, continuing pieces marked with ##.

text -- NFC, white space, CJK characters apart --> words and punctuation --> pieces --> ids

After mecab the morphemes of a word are cut one by one, and those behind the first have ## pieces only.
Source: Schuster and Nakajima 2012; Devlin et al. 2019 (https://arxiv.org/abs/1810.04805).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from reforge.tokenizers.bert import PREFIX, bert_tokenizer, words_of
from reforge.tokenizers.trained import GrownOptions, check_room, find_alphabet, tokens_of

_STAND_INS = 0xF0000  # private characters, which the normalizer removes from text
_CHUNK_WORDS = 1 << 14


class WordPiece(GrownOptions):
    """A WordPiece vocabulary trained on a sample of the text.

    min_frequency: how often a pair of pieces must stand in the sample to become a token
    limit_alphabet: keep only the most frequent characters; words with others become [UNK]
    """

    kind: Literal["wordpiece"] = "wordpiece"
    min_frequency: int = Field(default=2, ge=1)
    lowercase: bool = False
    limit_alphabet: int | None = Field(default=None, ge=1)

    base_name: ClassVar[str] = "characters and their ## forms"

    def train_on(self, sampled: list[str], special_tokens: Sequence[str]) -> Tokenizer:
        empty = self.assemble([*special_tokens], len(special_tokens))
        alphabet = self._alphabet(empty, sampled, len(special_tokens))
        grow = self._grow_morphemes if self.pretokenize == "mecab" else self._grow_words
        return self.assemble(grow(empty, sampled, [*special_tokens, *alphabet]), len(special_tokens))

    def assemble(self, tokens: list[str], num_special: int) -> Tokenizer:
        model = models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]")
        tokenizer = bert_tokenizer(model, self.lowercase, morphemes=self.pretokenize == "mecab")
        tokenizer.add_special_tokens(tokens[:num_special])
        return tokenizer

    def is_base(self, token: str) -> bool:
        return len(token.removeprefix(PREFIX)) == 1

    def _alphabet(self, tokenizer: Tokenizer, texts: list[str], num_special: int) -> list[str]:
        """Each character that the vocabulary starts from, and its ## form where it can stand inside a word."""
        assert tokenizer.normalizer is not None
        alphabet = find_alphabet(tokenizer.normalizer, texts, self.limit_alphabet)
        pieces = [*alphabet.kept, *(PREFIX + char for char in alphabet.kept if _continues_words(tokenizer, char))]
        limit = f", or tokenizer.limit_alphabet below {max(2, self.vocab_size // 3)} (rarer characters become [UNK])"
        base = f"{alphabet}with their ## forms {len(pieces)} characters"
        check_room(self.vocab_size, num_special, len(pieces), base, limit)
        return pieces

    def _grow_words(self, tokenizer: Tokenizer, texts: list[str], start: list[str]) -> list[str]:
        """The tokens of a vocabulary grown from `start`."""
        alphabet = [token for token in start if len(token) == 1]
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            show_progress=False,
            # The library numbers characters in the order of a hash table that differs in every process, and breaks
            # ties between pairs by those numbers. Characters passed as special tokens are numbered in our order.
            special_tokens=start,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
        )
        tokenizer.train_from_iterator(texts, trainer=trainer)
        return tokens_of(tokenizer)

    def _grow_morphemes(self, tokenizer: Tokenizer, texts: list[str], start: list[str]) -> list[str]:
        """As `_grow_words`; the trainer knows no words that begin with a ## piece, so ## forms have stand-ins."""
        stand_ins = _StandIns(start)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            show_progress=False,
            special_tokens=[stand_ins.written(token) if stand_ins.is_base(token) else token for token in start],
        )
        grown = Tokenizer(models.BPE())
        grown.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        counts = Counter(word for text in texts for word in words_of(tokenizer, text))
        grown.train_from_iterator(_repeated((stand_ins.written(word), counts[word]) for word in counts), trainer)
        return [stand_ins.read(token) for token in tokens_of(grown)]


class _StandIns:
    """Words and tokens in which each character behind a word's first is another one, and none that is unknown."""

    def __init__(self, start: list[str]) -> None:
        self._first = {token for token in start if len(token) == 1}
        self._later = {token[-1]: chr(_STAND_INS + i) for i, token in enumerate(start) if token.startswith(PREFIX)}
        self._letters = {stand_in: char for char, stand_in in self._later.items()}

    def is_base(self, token: str) -> bool:
        return len(token.removeprefix(PREFIX)) == 1

    def written(self, word: str) -> str:
        later = word.removeprefix(PREFIX)
        first = "" if len(later) < len(word) else word[:1]
        return (first if first in self._first else "") + "".join(self._later.get(c, "") for c in later[len(first) :])

    def read(self, token: str) -> str:
        letters = "".join(self._letters.get(char, char) for char in token)
        return PREFIX + letters if token[0] in self._letters else letters


def _repeated(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Each word as often as it is counted."""
    for word, times in words:
        for start in range(0, times, _CHUNK_WORDS):
            yield f"{word} " * min(_CHUNK_WORDS, times - start)


def _continues_words(tokenizer: Tokenizer, char: str) -> bool:
    """Whether a character can stand inside a word; punctuation and CJK ideographs are words by themselves."""
    return len(words_of(tokenizer, f"a{char}a")) == 1
