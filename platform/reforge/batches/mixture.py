"""Which blocks of which set make up a step, in constant time for any step; weights say how often each set comes.

    set s: endless stream of its blocks, permutation after permutation
           |  c_s blocks  |  c_s blocks  |  c_s blocks  | ...        c_s = weight x blocks of the set, rounded
           epoch 0        / epoch 1      / epoch 2      / ...

Epoch e is the e-th c_s blocks of every set, permuted against each other. So a set of weight 2 comes twice an epoch, in
two permutations, and one of weight 0.5 every second epoch. After any epoch all blocks of a set have come equally often,
or some of them once more.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from reforge.batches.order import Ints, permute, permute_each, seed_key

# Positions computed at once: numpy takes little longer for thousands than for a few, and steps come one after another.
_AHEAD = 4096


def global_samples(num_blocks: int, seed: int, step: int, global_batch_blocks: int) -> tuple[Ints, Ints]:
    """Epoch and block index [G] of every block of a step's global batch, in constant time for any step."""
    assert num_blocks > 0
    positions = np.arange(step * global_batch_blocks, (step + 1) * global_batch_blocks, dtype=np.int64)
    epochs, offsets = np.divmod(positions, num_blocks)
    return epochs, permute(offsets, num_blocks, seed, epochs)


class Mixture:
    """The order of blocks over sets of `sizes` blocks, weighted; `names` tell the sets' permutations apart."""

    def __init__(self, names: Sequence[str], sizes: Sequence[int], weights: Sequence[float]) -> None:
        assert sizes
        assert min(*sizes, *weights, 1) > 0
        assert len(set(names)) == len(names)
        self.names = list(names)
        self.sizes = np.array(sizes, dtype=np.int64)
        self.counts = np.maximum(1, np.rint(np.multiply(weights, self.sizes))).astype(np.int64)
        self.epoch_blocks = int(self.counts.sum())
        self._starts = np.cumsum(self.sizes) - self.sizes

    def locate(self, seed: int, step: int, global_batch_blocks: int) -> tuple[Ints, Ints]:
        """For a step's blocks [G] their sets' epochs, and their indices, which count through the sets."""
        steps = max(1, _AHEAD // global_batch_blocks)
        epochs, indices = _stretch(self, seed, step // steps, steps * global_batch_blocks)
        start = step % steps * global_batch_blocks
        return epochs[start : start + global_batch_blocks], indices[start : start + global_batch_blocks]

    def stretch(self, seed: int, number: int, length: int) -> tuple[Ints, Ints]:
        """The same for the positions from `number` * `length` on; [`length`]."""
        epochs, places = global_samples(self.epoch_blocks, seed, number, length)
        ends = np.cumsum(self.counts)
        sets = np.searchsorted(ends, places, side="right")
        positions = epochs * self.counts[sets] + places - (ends - self.counts)[sets]
        set_epochs, offsets = np.divmod(positions, self.sizes[sets])
        return set_epochs, self._starts[sets] + self._shuffled(seed, sets, set_epochs, offsets)

    def _shuffled(self, seed: int, sets: Ints, epochs: Ints, offsets: Ints) -> Ints:
        """Each set's own permutation of `offsets`; one that comes once an epoch, whole, is in random order already."""
        mixed = np.flatnonzero((self.counts != self.sizes)[sets])
        if mixed.size:
            keys = np.concatenate([seed_key(seed, f"set {name}") for name in self.names])
            chosen = sets[mixed]
            offsets[mixed] = permute_each(offsets[mixed], self.sizes[chosen], keys[chosen], epochs[mixed])
        return offsets


@lru_cache(maxsize=2)
def _stretch(mixture: Mixture, seed: int, number: int, length: int) -> tuple[Ints, Ints]:
    epochs, indices = mixture.stretch(seed, number, length)
    for values in (epochs, indices):
        values.flags.writeable = False  # many steps look at slices of them
    return epochs, indices
