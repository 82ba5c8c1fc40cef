"""From documents to rows of tokens on disk, and from there to the same global batches on any number of workers.

prepare(): Document -> split by text -> token ids -> packed blocks or rows by length -> shard files + manifest.json
Samples: (seed, step) -> Rows of the global batch -> this rank's slice -> Batch
"""

from reforge.batches.data import Data
from reforge.batches.mixture import global_samples
from reforge.batches.packed import PackedSamples, Set
from reforge.batches.preparation import prepare
from reforge.batches.prepared import Prepared, open_prepared
from reforge.batches.samples import Batch, Rows, Samples
from reforge.batches.shards import Shards

__all__ = [
    "Batch",
    "Data",
    "PackedSamples",
    "Prepared",
    "Rows",
    "Samples",
    "Set",
    "Shards",
    "global_samples",
    "open_prepared",
    "prepare",
]
