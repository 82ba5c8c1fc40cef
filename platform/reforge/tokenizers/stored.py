"""A tokenizer.json, in the tokenizers library's own format, from the disk."""

from pathlib import Path

from tokenizers import Tokenizer

from reforge.spec import UserError


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a file; raises UserError where it cannot be read or holds none."""
    try:
        return parse_tokenizer(file.read_bytes(), str(file))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error


def parse_tokenizer(content: bytes, name: str) -> Tokenizer:
    """The tokenizer that a file's content spells. name: the file, for messages"""
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # the library has no class of its own for what it can't read
        raise UserError(f"{name} is no tokenizer.json of the tokenizers library: {error}") from error
