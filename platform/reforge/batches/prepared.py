"""A prepared corpus as training uses it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reforge.batches.bucketed import Bucket, BucketedSamples
from reforge.batches.bucketing import DOCUMENT_DTYPE
from reforge.batches.packed import PackedSamples, Set
from reforge.batches.samples import Samples
from reforge.batches.shards import Shards
from reforge.batches.storage import read_manifest
from reforge.spec import UserError

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Prepared:
    """Tokenizer and samples of both splits, the manifest that came with them, and the hash of all that made them."""

    folder: Path
    tokenizer: Tokenizer
    train: Samples
    valid: Samples
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
    return Prepared(
        folder=folder,
        tokenizer=Tokenizer.from_file(str(folder / TOKENIZER)),
        train=_samples(folder, manifest, "train"),
        valid=_samples(folder, manifest, "valid"),
        report=manifest,
        fingerprint=manifest["fingerprint"],
    )


def _samples(folder: Path, manifest: dict[str, Any], name: str) -> Samples:
    split, dtype = manifest["splits"][name], np.dtype(manifest["dtype"])
    if "buckets" not in split:
        return PackedSamples([Set(name, _shards(folder, split["files"], manifest["block_tokens"], dtype))])
    buckets = [
        Bucket(
            _shards(folder, bucket["files"], bucket["row_tokens"], dtype),
            _shards(folder, bucket["document_files"], 1, DOCUMENT_DTYPE),
        )
        for bucket in split["buckets"]
    ]
    if manifest["data"]["batches"] == "packed":  # rows of one document each, all of one length
        [bucket] = buckets
        return PackedSamples([Set(name, bucket.rows, documents=bucket.documents)])
    return BucketedSamples(name, buckets)


def _shards(folder: Path, files: list[tuple[str, int]], row_tokens: int, dtype: np.dtype[Any]) -> Shards:
    return Shards([(folder / name, rows) for name, rows in files], row_tokens, dtype)
