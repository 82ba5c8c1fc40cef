"""A tokenizer that is there already: a tokenizer.json, BERT's vocab.txt or SentencePiece's .model.

Text is cut into the same pieces as before; only their ids are new, since special tokens come first.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from tokenizers import Tokenizer, models

from reforge.spec import Problem, UserError
from reforge.tokenizers.bert import bert_tokenizer
from reforge.tokenizers.renumbering import renumber
from reforge.tokenizers.sentencepiece_model import tokenizer_of
from reforge.tokenizers.stored import parse_tokenizer
from reforge.tokenizers.tokenizer import SPECIAL_TOKENS, TokenizerOptions

_SUFFIXES = (".json", ".txt", ".model")


class Existing(TokenizerOptions):
    """A tokenizer from a file; nothing is trained, and the text plays no part.

    path: a tokenizer.json, a vocab.txt of WordPiece, or a .model of SentencePiece
    vocab_size: the most tokens that the file may lead to; left out, any number
    lowercase: bring text to lower case before a vocab.txt, which does not say itself
    """

    kind: Literal["existing"] = "existing"
    path: Path
    vocab_size: int | None = Field(default=None, ge=len(SPECIAL_TOKENS) + 1)
    lowercase: bool = False

    is_trained: ClassVar[bool] = False

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        path = self.path.expanduser()
        if not path.is_file():
            yield Problem(("path",), "must be a file", got=str(self.path))
        if path.suffix not in _SUFFIXES:
            yield Problem(("path",), f"must end in {', '.join(_SUFFIXES)}", got=str(self.path))
        if self.lowercase and path.suffix != ".txt":
            yield Problem(("lowercase",), "must be false for a file that says itself how text is normalized", got=True)
        if self.pretokenize != "none" and path.suffix == ".json":
            rule = "must be none for a tokenizer.json, which says itself how text is cut"
            yield Problem(("pretokenize",), rule, got=self.pretokenize)

    def identity(self) -> dict[str, Any]:
        # Where the file stands does not change what is in it.
        content = hashlib.blake2b(_read(self.path.expanduser()), digest_size=16).hexdigest()
        options = self.model_dump(mode="json", exclude={"path", "vocab_size"})
        return {**options, "content": content, "suffix": self.path.suffix}

    def train(self, texts: Iterable[str], special_tokens: Sequence[str] = SPECIAL_TOKENS) -> Tokenizer:
        path = self.path.expanduser()
        loaded = self._loaders()[path.suffix](_read(path), str(path))
        parts = renumber(json.loads(loaded.to_str()), special_tokens, str(path))
        tokenizer = Tokenizer.from_str(json.dumps(parts))
        if self.vocab_size is not None and tokenizer.get_vocab_size() > self.vocab_size:
            raise UserError(
                f"{path} leads to {tokenizer.get_vocab_size()} tokens with {len(special_tokens)} special ones, more "
                f"than tokenizer.vocab_size {self.vocab_size}: leave tokenizer.vocab_size out"
            )
        return tokenizer

    def _loaders(self) -> dict[str, Callable[[bytes, str], Tokenizer]]:
        morphemes = self.pretokenize == "mecab"
        return {
            ".json": parse_tokenizer,
            ".txt": lambda content, name: _from_vocabulary(content, name, self.lowercase, morphemes),
            ".model": lambda content, name: tokenizer_of(content, name, morphemes),
        }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _from_vocabulary(content: bytes, name: str, lowercase: bool, morphemes: bool) -> Tokenizer:
    """The tokenizer of a file with a token on each line."""
    try:
        lines = content.decode().splitlines() if b"\r" in content else content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}") from None
    vocabulary: dict[str, int] = {}
    for number, token in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        if not token or any(char.isspace() for char in token):
            raise UserError(f"{name}:{number} is no token of a vocab.txt: a line holds one, without white space")
        if token in vocabulary:
            raise UserError(f"{name}:{number} repeats the token {token!r} of line {vocabulary[token] + 1}")
        vocabulary[token] = len(vocabulary)
    vocabulary.setdefault("[UNK]", len(vocabulary))
    return bert_tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"), lowercase, morphemes)
