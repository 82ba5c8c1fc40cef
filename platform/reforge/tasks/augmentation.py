"""Texts changed a little in every epoch, for small sets: neighbours swapped, tokens deleted, tokens masked.

    ids --swap--> --delete--> --mask--> ids

Every draw is a hash of (seed, epoch, sample, position), as in objectives/masking.py. Special tokens, [UNK] among them,
stay what and where they are (Wei and Zou 2019, https://arxiv.org/abs/1901.11196, on words).

Shapes: B batch, T tokens.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reforge.batches import Batch
from reforge.batches.order import Ints
from reforge.objectives.masking import MASK_ID, NUM_STREAMS, random_shares
from reforge.spec import Part
from reforge.tasks.row_set import SEGMENTS
from reforge.tasks.task import PAD_ID
from reforge.tokenizers import SPECIAL_TOKENS

SEP_ID = SPECIAL_TOKENS.index("[SEP]")
SWAP, DELETE, MASK = range(NUM_STREAMS - 3, NUM_STREAMS)  # random streams that masking does not use

Flags = NDArray[np.bool_]
Shares = NDArray[np.float64]


class Augmentation(Part):
    """How texts are changed while training. Each epoch changes them anew; validation, never.

    mask_prob: of a token to become [MASK]
    delete_prob: of a token to be left out; a text keeps one at least
    swap_prob: of a token to change places with the next one; a token moves once at most
    """

    mask_prob: float = Field(0.0, ge=0, lt=1)
    delete_prob: float = Field(0.0, ge=0, lt=1)
    swap_prob: float = Field(0.0, ge=0, lt=1)

    def change(self, batch: Batch, seed: int, num_special: int) -> Batch:
        """`batch` with its texts changed; rows of a negative epoch stay. The first `num_special` ids are special."""
        train_B1 = (batch.epochs >= 0)[:, None]
        if self.swap_prob:
            chosen_BT = random_shares(batch, seed, SWAP) < self.swap_prob
            batch = batch._replace(ids=swapped(batch.ids, train_B1 & chosen_BT, num_special))
        if self.delete_prob:
            draw_BT = random_shares(batch, seed, DELETE)
            batch = without(batch, train_B1 & (draw_BT < self.delete_prob), draw_BT, num_special)
        if self.mask_prob:
            chosen_BT = train_B1 & (random_shares(batch, seed, MASK) < self.mask_prob)
            batch = batch._replace(ids=np.where(chosen_BT & (batch.ids >= num_special), MASK_ID, batch.ids))
        return batch


def swapped(ids_BT: Ints, chosen_BT: Flags, num_special: int) -> Ints:
    """The ids with the chosen ordinary tokens and their next ones in each other's place.

    Of chosen neighbours every other one moves; no token passes a special one, so none leaves its text.
    """
    ordinary_BT = ids_BT >= num_special
    begins_BT = np.zeros_like(chosen_BT)
    begins_BT[:, :-1] = chosen_BT[:, :-1] & ordinary_BT[:, :-1] & ordinary_BT[:, 1:]
    positions_T = np.arange(ids_BT.shape[1])
    last_break_BT = np.maximum.accumulate(np.where(begins_BT, -1, positions_T), axis=1)
    begins_BT &= (positions_T - last_break_BT) % 2 == 1  # the first, third, ... of a run of chosen ones
    from_BT = positions_T + begins_BT
    from_BT[:, 1:] -= begins_BT[:, :-1]
    swapped_BT: Ints = np.take_along_axis(ids_BT, from_BT, axis=1)
    return swapped_BT


def without(batch: Batch, chosen_BT: Flags, draw_BT: Shares, num_special: int) -> Batch:
    """`batch` without the chosen ordinary tokens; the rest moves up, segments with it.

    Of a text that would lose all its tokens the one with the highest draw stays.
    """
    ids_BT = batch.ids
    gone_BT = chosen_BT & (ids_BT >= num_special)
    gone_BT &= ~_last_ones(ids_BT, gone_BT, draw_BT)
    order_BT = gone_BT.argsort(axis=1, kind="stable")
    is_left_BT = ~np.take_along_axis(gone_BT, order_BT, axis=1)
    extras = dict(batch.extras)
    if SEGMENTS in extras:
        extras[SEGMENTS] = np.take_along_axis(extras[SEGMENTS], order_BT, axis=1) * is_left_BT
    ids_BT = np.where(is_left_BT, np.take_along_axis(ids_BT, order_BT, axis=1), PAD_ID)
    return batch._replace(ids=ids_BT, extras=extras)


def _last_ones(ids_BT: Ints, gone_BT: Flags, draw_BT: Shares) -> Flags:
    """Of each text that would lose all its tokens the one that drew the highest number [B, T]."""
    kept_BT = np.zeros_like(gone_BT)
    seps_BT = ids_BT == SEP_ID
    text_BT = seps_BT.cumsum(axis=1) - seps_BT  # how many texts have ended before each token
    inside_BT = ~seps_BT & (ids_BT != PAD_ID)
    inside_BT[:, 0] = False  # [CLS]
    for number in range(int(text_BT.max(initial=0)) + 1):
        own_BT = inside_BT & (text_BT == number)
        rows = np.flatnonzero((own_BT & gone_BT).any(axis=1) & ~(own_BT & ~gone_BT).any(axis=1))
        kept_BT[rows, np.where(own_BT, draw_BT, -1.0)[rows].argmax(axis=1)] = True
    return kept_BT
