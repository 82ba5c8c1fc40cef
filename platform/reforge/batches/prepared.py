"""A prepared corpus as training uses it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reforge.batches.shards import Shards
from reforge.batches.storage import read_manifest
from reforge.spec import UserError

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Prepared:
    """Tokenizer and shards of both splits, the manifest that came with them, and the hash of all that made them."""

    folder: Path
    tokenizer: Tokenizer
    train: Shards
    valid: Shards
    report: dict[str, Any]
    fingerprint: str

    @property
    def valid_tokens_per_byte(self) -> float:
        """Tokens of the validation text over its UTF-8 bytes: from nats a token to bits a byte."""
        valid = self.report["splits"]["valid"]
        return float(valid["tokens"] / valid["bytes"])


def open_prepared(folder: Path) -> Prepared:
    """What `prepare` made, without any work: files are memory-mapped when first read.

    Raises UserError where the folder is not complete.
    """
    manifest, trouble = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder} holds no prepared data: {trouble or 'it does not exist'}")
    splits = {name: _shards(folder, manifest, split) for name, split in manifest["splits"].items()}
    return Prepared(
        folder=folder,
        tokenizer=Tokenizer.from_file(str(folder / TOKENIZER)),
        train=splits["train"],
        valid=splits["valid"],
        report=manifest,
        fingerprint=manifest["fingerprint"],
    )


def _shards(folder: Path, manifest: dict[str, Any], split: dict[str, Any]) -> Shards:
    files = [(folder / name, blocks) for name, blocks in split["files"]]
    return Shards(files, manifest["block_tokens"], np.dtype(manifest["dtype"]))
