"""What a training step has to do: the size of the models and the tokens.

Every contender gets the same ids, the same hidden or next tokens as targets, and models of one width and depth.
Shapes: B blocks, T tokens.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reforge.batches import Batch
from reforge.objectives.masking import IGNORED
from reforge.objectives.mlm import MaskedLMOptions
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

MASKING = MaskedLMOptions(mask_prob=0.15)
SEED = 0


@dataclass(frozen=True)
class Workload:
    """One row of the comparison: what is learned, on how many tokens, by models of what size.

    work: "mlm" (15 % of the tokens are guessed) or "causal" (all but the first of a block are)
    precision: "fp32", or "bf16" for autocast
    """

    work: str
    precision: str
    num_blocks: int
    block_tokens: int
    d_model: int = 512
    depth: int = 6
    num_heads: int = 8
    vocab_size: int = 8000
    ff_mult: int = 4
    bucket_size: int = 64
    num_hashes: int = 4

    @property
    def dtype(self) -> torch.dtype:
        """What matrix products are computed in."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def num_tokens(self) -> int:
        """Tokens a step."""
        return self.num_blocks * self.block_tokens

    @property
    def num_targets(self) -> int:
        """Tokens that are guessed a step."""
        if self.work == "causal":
            return self.num_blocks * (self.block_tokens - 1)
        return self.num_blocks * round(MASKING.mask_prob * self.block_tokens)


class Data(NamedTuple):
    """One step's tokens, as peers take them and as ours does."""

    ids_BT: Tensor  # what the model reads: some of it hidden where work is mlm
    labels_BT: Tensor  # mlm: the hidden ids, IGNORED elsewhere; causal: the ids themselves, not shifted
    batch: Batch  # the plain blocks, for our own collate

    def to(self, device: torch.device) -> "Data":
        """The same data on `device`."""
        return Data(self.ids_BT.to(device), self.labels_BT.to(device), self.batch)


def make_data(load: Workload) -> Data:
    """Uniformly random ordinary tokens: a function of the workload alone."""
    shape = (load.num_blocks, load.block_tokens)
    ids_BT = np.random.default_rng(SEED).integers(len(SPECIAL_TOKENS), load.vocab_size, shape)
    batch = Batch(ids=ids_BT, epochs=np.zeros(shape[0], np.int64), samples=np.arange(shape[0]))
    if load.work == "causal":
        ids = torch.from_numpy(ids_BT)
        return Data(ids, ids, batch)
    masked = MASKING.mask(batch, SEED, Vocabulary.plain(load.vocab_size))
    assert int((masked.targets_BT != IGNORED).sum()) == load.num_targets
    return Data(torch.from_numpy(masked.ids_BT), torch.from_numpy(masked.targets_BT), batch)
