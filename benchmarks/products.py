"""The matrix products that a model's training step mathematically needs, counted exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from workload import Workload


@dataclass(frozen=True)
class Products:
    """The matrix products of one model, as counts a token; `train_flops` adds them up.

    keys: for every layer, the keys that a query is compared with, on average
    projections: matrices of d_model x attention_width in an attention layer (4, or 3 where queries are also keys)
    ff_matrices, ff_width: matrices of d_model x ff_width in a feed-forward layer (3 where it is gated)
    head_inputs: rows of the output matrix; head_matrices: matrices of d_model x d_model before it
    last_at_targets: whether the last layer's output projection and feed-forward run at the targets alone
    hash_columns: random directions that a head's vectors are multiplied with, over all rounds of hashing
    """

    keys: Sequence[float]
    projections: int
    attention_width: int
    ff_width: int
    head_inputs: int
    ff_matrices: int = 2
    head_matrices: int = 0
    hash_columns: int = 0
    last_at_targets: bool = False

    def forward_flops(self, load: Workload, num_logits: int) -> float:
        """Operations (2 for a multiply-add) of a forward pass with logits at `num_logits` places, without hashing.

            2 tokens sum over layers (projections d a + 2 keys a + ff_matrices d f)
            + 2 num_logits (head_matrices d d + head_inputs V)
            - 2 (tokens - num_logits) (d a + ff_matrices d f) where the last layer runs at the targets alone

        with d d_model, a attention_width, f ff_width, V vocabulary.
        """
        d, a = load.d_model, self.attention_width
        layers = sum(
            self.projections * d * a + 2 * keys * a + self.ff_matrices * d * self.ff_width for keys in self.keys
        )
        head = self.head_matrices * d * d + self.head_inputs * load.vocab_size
        flops = 2 * load.num_tokens * layers + 2 * num_logits * head
        if self.last_at_targets:
            flops -= 2 * (load.num_tokens - num_logits) * (d * a + self.ff_matrices * d * self.ff_width)
        return flops

    def hash_flops(self, load: Workload) -> float:
        """Operations of hashing: 2 tokens depth a hash_columns."""
        return 2.0 * load.num_tokens * len(self.keys) * self.attention_width * self.hash_columns

    def train_flops(self, load: Workload) -> float:
        """Operations that a training step needs: 3 x forward, and hashing once, since it has no gradient.

        What a model does beyond the need is not counted: logits where nothing is guessed, a forward pass done a second
        time, scores that a mask then hides. The optimizer has no matrix products.
        """
        return 3 * self.forward_flops(load, load.num_targets) + self.hash_flops(load)


def exact_keys(load: Workload) -> float:
    """Keys a query of exact attention: the whole block, in causal work on average half of it."""
    return (load.block_tokens + 1) / 2 if load.work == "causal" else float(load.block_tokens)


def window_keys(load: Workload, before: int, after: int) -> float:
    """Keys a query that sees `before` tokens on its left and `after` on its right; fewer at a block's ends."""
    places = np.arange(load.block_tokens)
    seen = np.minimum(places, before) + 1 + np.minimum(places[::-1], after)
    return float(seen.mean())


def lsh_keys(load: Workload) -> float:
    """Keys a query of LSH attention: its own bucket and the one before, in every round; in causal work some are masked.

    Which are masked depends on the hashes, so they count as visited.
    """
    return float(load.num_hashes * 2 * load.bucket_size)
