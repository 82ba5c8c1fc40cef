"""From documents to blocks of tokens on disk, and from there to the same global batches on any number of workers.

prepare(): Document -> split by text -> token ids -> packed blocks -> shard files + manifest.json
rank_batch(): (seed, step) -> positions in the endless stream of blocks -> this rank's slice -> Batch
"""

from reforge.batches.data import Data
from reforge.batches.preparation import prepare
from reforge.batches.prepared import Prepared, open_prepared
from reforge.batches.samples import Batch, global_samples, rank_batch
from reforge.batches.shards import Shards

__all__ = ["Batch", "Data", "Prepared", "Shards", "global_samples", "open_prepared", "prepare", "rank_batch"]
