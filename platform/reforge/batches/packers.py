"""The packer that the spec asks for."""

from pathlib import Path
from typing import Any

import numpy as np

from reforge.batches.bucketing import BucketedPacker
from reforge.batches.data import Data
from reforge.batches.packing import EOD, SEP, Packer
from reforge.batches.shards import ShardWriter

_MIB = 1 << 20


def make_packer(data: Data, folder: Path, split: str, dtype: np.dtype[Any]) -> Packer:
    """A packer of blocks of several documents, or of rows of one document each; its files begin with `split`."""
    max_bytes = data.shard_mib * _MIB
    if data.packing == "documents":
        writer = ShardWriter(folder, split, data.block_tokens, dtype, max_bytes)
        return Packer(writer, data.block_tokens, dtype, EOD if data.separator == "eod" else SEP)
    return BucketedPacker(folder, split, data.block_tokens, dtype, max_bytes, one_length=data.batches == "packed")
