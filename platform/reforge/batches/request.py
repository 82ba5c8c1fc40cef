"""A preparation with the keys of its two results: hashes of all that decides them."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from reforge.batches.data import Data
from reforge.batches.encoding import encode_part
from reforge.batches.executor import Executor
from reforge.batches.facts import FileFacts, KnownFiles, file_stamp
from reforge.batches.fingerprint import code_fingerprint, digest
from reforge.batches.joining import join_parts
from reforge.batches.parts import CorpusPart, plan
from reforge.batches.reading import PartReading
from reforge.spec import UserError
from reforge.tokenizers import TokenizerOptions

FORMAT = 2
_KEY_DIGITS = 12


@dataclass(frozen=True)
class Request:
    """What to prepare and where.

    family: key of the tokenizers that differ from the one asked for in vocab_size alone
    """

    data: Data
    options: TokenizerOptions
    root: Path
    stamps: dict[Path, list[Any]]
    parts: list[CorpusPart]
    family: str
    tokenizer_key: str
    shards_key: str

    @classmethod
    def of(
        cls, data: Data, options: TokenizerOptions, root: Path, run: Executor, announce: Callable[[str], None]
    ) -> "Request":
        """The request for `data` as its files are now; those not known from an earlier one are read once."""
        known = KnownFiles(root / "files.json")
        stamps, facts = known.of(data.corpus.files(), run, announce)
        known.save()
        text = _text_identity(data, facts)
        trained_on = text if options.is_trained else ""
        family = digest([trained_on, options.identity(), data.special_tokens, code_fingerprint(type(options))])
        tokenizer_key = digest([family, options.vocab_size])
        shards_key = digest([text, tokenizer_key, data.shards_identity(), code_fingerprint(encode_part, join_parts)])
        parts = plan(data.corpus, {file: fact.num_bytes for file, fact in facts.items()})
        return cls(data, options, root, stamps, parts, family, tokenizer_key, shards_key)

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.root / f"tokenizer-{self.tokenizer_key[:_KEY_DIGITS]}"

    @property
    def shards(self) -> Path:
        """Folder of the shards."""
        return self.root / f"shards-{self.shards_key[:_KEY_DIGITS]}"

    @property
    def work(self) -> Path:
        """Folder of what the parts give, until the shards are complete."""
        return self.root / f".work-{self.shards.name}"

    @property
    def num_bytes(self) -> int:
        """About how much text there is."""
        return sum(part.num_bytes for part in self.parts)

    def check_unchanged(self) -> None:
        """Raise UserError where files changed or came since they were hashed: the key would promise other content."""
        if came := set(self.data.corpus.files()) - self.stamps.keys():
            raise UserError(f"{min(came)} came while the corpus was being prepared; start again when it is complete")
        for file, stamp in self.stamps.items():
            if file_stamp(file) != stamp:
                raise UserError(f"{file} changed while it was being prepared; start again when it is complete")


def _text_identity(data: Data, facts: dict[Path, FileFacts]) -> str:
    """Hash of what decides the documents and their split."""
    files = [
        (name, facts[file].digest) for name, file in zip(data.corpus.file_names(), data.corpus.files(), strict=True)
    ]
    return digest(
        {
            "format": FORMAT,
            "files": files,
            "corpus": data.corpus.identity(),
            "clean": data.clean.model_dump(mode="json"),
            "valid_fraction": data.valid_fraction,
            "code": code_fingerprint(*data.corpus.classes(), PartReading),
            "libraries": [tokenizers.__version__, unicodedata.unidata_version],
        }
    )
