"""What every tokenizer promises, whatever model it trains."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from tokenizers import Tokenizer

from reforge.spec import Part

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4 in every vocabulary
EOD = "[EOD]"  # id 5 where documents are told apart by a token of their own


class TokenizerOptions(Part, ABC):
    """How a tokenizer is made. The result is a function of the options and the texts alone.

    vocab_size: the most tokens it may have, special ones included; little text can end in fewer
    pretokenize: mecab cuts words into morphemes first, and no token goes across a morpheme's end
    """

    kind: str
    vocab_size: int | None = None
    pretokenize: Literal["none", "mecab"] = "none"

    shrinks: ClassVar[bool] = False  # whether `shrink` gives what training at the smaller size would
    is_trained: ClassVar[bool] = True  # whether `train` looks at the texts at all

    @property
    def sample_bytes(self) -> int:
        """The most text that `train` is given."""
        return 64 << 20

    def identity(self) -> dict[str, Any]:
        """What decides the tokenizer beside the texts and vocab_size; the content of files, not where they lie."""
        return self.model_dump(mode="json", exclude={"vocab_size"})

    @abstractmethod
    def train(self, texts: Iterable[str], special_tokens: Sequence[str] = SPECIAL_TOKENS) -> Tokenizer:
        """A tokenizer whose encoding adds no special tokens; they have the ids from 0 on, in the order given.

        Raises UserError where vocab_size can't work.
        """

    def shrink(self, tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
        """What training with `vocab_size` on the same texts gives, made from a larger `tokenizer` of these options.

        Raises UserError where vocab_size can't work.
        """
        raise NotImplementedError(f"{self.kind} does not shrink")
