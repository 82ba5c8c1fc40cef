"""A prepared corpus as training uses it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from reforge.batches.bucketed import Bucket, BucketedSamples
from reforge.batches.bucketing import DOCUMENT_DTYPE
from reforge.batches.cache import RemoteShards, ShardCache
from reforge.batches.data import Data
from reforge.batches.packed import PackedSamples, Set
from reforge.batches.samples import Samples
from reforge.batches.shards import Shards, token_dtype
from reforge.batches.storage import MANIFEST, read_manifest
from reforge.corpora.place import is_remote
from reforge.spec import UserError
from reforge.tokenizers.stored import read_tokenizer

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


def open_prepared(folder: Path, data: Data, cache: ShardCache | None = None) -> Prepared:
    """What `prepare` made, without any work: files are memory-mapped when first read.

    data: as it was prepared, but for what decides the order alone: weights and curriculum
    cache: keeps files of a remote folder; without it blocks are loaded one by one
    Raises UserError where the folder is not complete.
    """
    manifest, trouble = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder} holds no prepared data: {trouble or 'it does not exist'}")
    tokenizer = read_tokenizer(folder / TOKENIZER)
    try:
        reader = _Reader(folder, manifest, token_dtype(manifest["vocab_size"]), cache or ShardCache(Path(), 0))
        return Prepared(
            folder=folder,
            tokenizer=tokenizer,
            train=reader.samples("train", data.corpus.weights(), data.curriculum == "length"),
            valid=reader.samples("valid", {}, curriculum=False),
            report=manifest,
            fingerprint=manifest["fingerprint"],
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:  # not of the shape that we write
        raise UserError(f"{folder / MANIFEST} is damaged, or not of this version of reforge: {error!r}") from error


@dataclass(frozen=True)
class _Reader:
    """The files of a prepared folder as its manifest lists them."""

    folder: Path
    manifest: dict[str, Any]
    dtype: np.dtype[Any]
    cache: ShardCache

    def samples(self, name: str, weights: Mapping[str, float], curriculum: bool) -> Samples:
        split = self.manifest["splits"][name]
        if "buckets" in split:
            return BucketedSamples(name, [self._bucket(bucket) for bucket in split["buckets"]], curriculum)
        weighed = [(one, weights.get(one["name"], 1.0)) for one in split["sets"]]
        return PackedSamples([self._set(one, one["name"] or name, weight) for one, weight in weighed if weight])

    def _set(self, one: dict[str, Any], name: str, weight: float) -> Set:
        if "buckets" not in one:
            return Set(name, self._shards(one["files"], self.manifest["block_tokens"]), weight)
        # Rows of one document each are all of one length here, and a set without a row has no bucket.
        nothing = {"row_tokens": self.manifest["block_tokens"], "files": [], "document_files": []}
        bucket = self._bucket(one["buckets"][0] if one["buckets"] else nothing)
        return Set(name, bucket.rows, weight, bucket.documents)

    def _bucket(self, bucket: dict[str, Any]) -> Bucket:
        return Bucket(
            self._shards(bucket["files"], bucket["row_tokens"]),
            self._shards(bucket["document_files"], 1, DOCUMENT_DTYPE),
        )

    def _shards(self, files: list[tuple[str, int]], row_tokens: int, dtype: np.dtype[Any] | None = None) -> Shards:
        dtype = dtype or self.dtype
        sizes = self.manifest["sizes"]
        for name, rows in files:  # of those in the folder, and as large as its rows: nothing else is ever mapped
            if sizes[name] != rows * row_tokens * dtype.itemsize:
                raise ValueError(f"{name} has {sizes[name]} bytes, not {rows} rows of {row_tokens}")
        paths = [(self.folder / name, rows) for name, rows in files]
        if not is_remote(self.folder):
            return Shards(paths, row_tokens, dtype)
        shards = {name: size for name, size in sizes.items() if name.endswith(".bin")}
        return RemoteShards(paths, row_tokens, dtype, self.cache, self.cache.fitting(shards))
