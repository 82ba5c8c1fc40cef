"""What every tokenizer promises, whatever model it trains."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pydantic import Field
from tokenizers import Tokenizer

from reforge.spec import Part

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4 in every vocabulary
EOD = "[EOD]"  # id 5 where data.separator asks for it


class TokenizerOptions(Part, ABC):
    """How a tokenizer is trained. The result is a function of the options and the texts alone.

    vocab_size: the most tokens it may have, special ones included; little text can end in fewer
    """

    kind: str
    vocab_size: int = Field(ge=len(SPECIAL_TOKENS) + 1, le=2**24)

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """A trained tokenizer whose encoding adds no special tokens; raises UserError where vocab_size can't work."""
