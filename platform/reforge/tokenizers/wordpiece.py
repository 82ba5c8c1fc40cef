"""BERT's WordPiece: words cut into the longest pieces of the vocabulary, continuing pieces marked with ##.

text -- NFC, white space, CJK characters apart --> words and punctuation --> pieces --> ids

Source: Schuster and Nakajima 2012; Devlin et al. 2019 (https://arxiv.org/abs/1810.04805).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from reforge.spec import UserError
from reforge.tokenizers.sample import sample
from reforge.tokenizers.tokenizer import SPECIAL_TOKENS, TokenizerOptions

_PREFIX = "##"
_MIB = 1 << 20


class WordPiece(TokenizerOptions):
    """A WordPiece vocabulary trained on a sample of the text.

    min_frequency: how often a pair of pieces must stand in the sample to become a token
    limit_alphabet: keep only the most frequent characters; words with others become [UNK]
    sample_mib: at most this much text is trained on, chosen evenly by document
    """

    kind: Literal["wordpiece"] = "wordpiece"
    vocab_size: int = Field(default=16000, ge=len(SPECIAL_TOKENS) + 1, le=2**24)
    min_frequency: int = Field(default=2, ge=1)
    lowercase: bool = False
    limit_alphabet: int | None = Field(default=None, ge=1)
    sample_mib: int = Field(default=64, ge=1)

    @property
    def sample_bytes(self) -> int:
        return self.sample_mib * _MIB

    def train(self, texts: Iterable[str], special_tokens: Sequence[str] = SPECIAL_TOKENS) -> Tokenizer:
        tokenizer = self._untrained(models.WordPiece(unk_token="[UNK]"))
        sampled = sample(texts, self.sample_mib * _MIB)
        alphabet = self._alphabet(tokenizer, sampled)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            show_progress=False,
            # The library numbers characters in the order of a hash table that differs in every process, and breaks
            # ties between pairs by those numbers. Characters passed as special tokens are numbered in our order.
            special_tokens=[*special_tokens, *alphabet],
            initial_alphabet=[piece for piece in alphabet if len(piece) == 1],
            limit_alphabet=sum(len(piece) == 1 for piece in alphabet),
        )
        tokenizer.train_from_iterator(sampled, trainer=trainer)
        # A new tokenizer, in which the alphabet is vocabulary and not special.
        trained = self._untrained(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"))
        trained.add_special_tokens(list(special_tokens))
        return trained

    def _untrained(self, model: models.WordPiece) -> Tokenizer:
        tokenizer = Tokenizer(model)
        # Stripping accents goes through NFD, which takes Hangul syllables apart.
        bert = normalizers.BertNormalizer(strip_accents=False, lowercase=self.lowercase)
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), bert])
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix=_PREFIX)
        return tokenizer

    def _alphabet(self, tokenizer: Tokenizer, texts: list[str]) -> list[str]:
        """Each character that the vocabulary starts from, and its ## form where it can stand inside a word.

        Raises UserError where they leave vocab_size no room for a single longer token.
        """
        assert tokenizer.normalizer is not None
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(tokenizer.normalizer.normalize_str(text))
        by_count = sorted((char for char in counts if not char.isspace()), key=lambda char: (-counts[char], char))
        kept = sorted(by_count[: self.limit_alphabet])
        pieces = [*kept, *(_PREFIX + char for char in kept if _continues_words(tokenizer, char))]
        self._check_room(len(by_count), len(kept), len(pieces))
        return pieces

    def _check_room(self, num_found: int, num_kept: int, num_pieces: int) -> None:
        needed = len(SPECIAL_TOKENS) + num_pieces
        if self.vocab_size > needed:
            return
        limited = f", limit_alphabet keeps {num_kept}" if num_kept < num_found else ""
        raise UserError(
            f"tokenizer.vocab_size {self.vocab_size} is too small for the alphabet: the text has {num_found} different "
            f"characters{limited}; with their ## forms and {len(SPECIAL_TOKENS)} special tokens they need {needed} "
            f"tokens before the first longer piece. Set tokenizer.vocab_size above {needed}, or "
            f"tokenizer.limit_alphabet below {max(2, self.vocab_size // 3)} (rarer characters become [UNK])"
        )


def _continues_words(tokenizer: Tokenizer, char: str) -> bool:
    """Whether a character can stand inside a word; punctuation and CJK ideographs are words by themselves."""
    assert tokenizer.normalizer is not None
    assert tokenizer.pre_tokenizer is not None
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(f"a{char}a"))) == 1
