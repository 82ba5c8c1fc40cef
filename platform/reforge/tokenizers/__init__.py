"""Text to token ids: each kind trains one of the `tokenizers` library's models, the same from the same text.

A new tokenizer is one file with a `TokenizerOptions` class and one line in `TOKENIZERS`.
"""

from typing import TYPE_CHECKING

from reforge.spec import one_of
from reforge.tokenizers.bpe import BPE
from reforge.tokenizers.byte_bpe import ByteBPE
from reforge.tokenizers.character import Character
from reforge.tokenizers.encoder import Encoder
from reforge.tokenizers.existing import Existing
from reforge.tokenizers.tokenizer import EOD, SPECIAL_TOKENS, TokenizerOptions
from reforge.tokenizers.unigram import Unigram
from reforge.tokenizers.vocabulary import Vocabulary
from reforge.tokenizers.wordpiece import WordPiece

TOKENIZERS: dict[str, type[TokenizerOptions]] = {
    "wordpiece": WordPiece,
    "bpe": BPE,
    "byte_bpe": ByteBPE,
    "unigram": Unigram,
    "character": Character,
    "existing": Existing,
}

if TYPE_CHECKING:
    AnyTokenizer = TokenizerOptions
else:
    AnyTokenizer = one_of(TOKENIZERS)

__all__ = ["EOD", "SPECIAL_TOKENS", "TOKENIZERS", "AnyTokenizer", "Encoder", "TokenizerOptions", "Vocabulary"]
