"""Pairs for next-sentence prediction (Devlin et al. 2019, section 3.1), made anew in every epoch.

    row      [CLS] a1 a2 a3 . b1 b2 . [SEP]            cut at a sentence's end near a drawn place
    is next  [CLS] a1 a2 a3 . [SEP] b1 b2 . [SEP]
    partner  [CLS] x1 x2 . y1 y2 y3 . [SEP]            cut where what follows is about as long as b
    not next [CLS] a1 a2 a3 . [SEP] y1 y2 y3 . [SEP]

Nothing but the content tells them apart: lengths are settled before the class is drawn. Both second parts begin with a
sentence, and the longer is cut at its end to the length of the shorter; another epoch has another partner, and cuts
elsewhere. Every draw is a hash of (seed, epoch, sample).

Shapes: B batch, T tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reforge.batches import Batch
from reforge.batches.order import Ints
from reforge.objectives.masking import PAD_ID, PAIRS, random_shares
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

SEP_ID = SPECIAL_TOKENS.index("[SEP]")
NUM_FRAME_TOKENS = 3  # [CLS] first part [SEP] second part [SEP]
FARTHEST = np.iinfo(np.int64).max


class Pairs(NamedTuple):
    """Rows of pairs; a row that cannot be split, or whose partner cannot, stays as it was, its segments all 0.

    ids, segments: [B, T]; segments are 1 from the second part to the [SEP] behind it
    is_pair, not_next: [B]; whether the row is a pair, and whether its second part comes from the partner
    """

    ids: Ints
    segments: Ints
    is_pair: NDArray[np.bool_]
    not_next: NDArray[np.bool_]


def make_pairs(batch: Batch, seed: int, vocabulary: Vocabulary, next_prob: float) -> Pairs:
    """Pairs no longer than the batch's rows; without partners no row is split."""
    if batch.partners is None:
        no_row = np.zeros(len(batch.ids), dtype=bool)
        return Pairs(batch.ids, np.zeros_like(batch.ids), no_row, no_row)
    num_tokens = batch.ids.shape[1]
    room = num_tokens - NUM_FRAME_TOKENS
    place_B, coin_B = random_shares(batch, seed, PAIRS, num_draws=2).T
    own_B, other_B = num_text_tokens(batch.ids), num_text_tokens(batch.partners)
    last_B = np.minimum(own_B, room) - 1  # the second part gets one token at least
    first_B = split_places(batch.ids, 1 + (place_B * (own_B - 1)).astype(np.int64), last_B, vocabulary)
    skipped_B = split_places(batch.partners, other_B - (own_B - first_B), other_B - 1, vocabulary)
    # With a partner that cannot be split either the class would always be the same one.
    is_pair_B = (first_B > 0) & (skipped_B > 0)
    not_next_B = is_pair_B & (coin_B >= next_prob)
    second_B = np.minimum(np.minimum(own_B, room) - first_B, other_B - skipped_B)
    other_BT = _moved(batch.partners, skipped_B - first_B - 1, num_tokens)
    own_BT = _moved(batch.ids, np.full_like(first_B, -1), num_tokens)
    ids_BT, segments_BT = _join(batch.ids, np.where(not_next_B[:, None], other_BT, own_BT), first_B, second_B)
    ids_BT = np.where(is_pair_B[:, None], ids_BT, batch.ids)
    return Pairs(ids_BT, np.where(is_pair_B[:, None], segments_BT, 0), is_pair_B, not_next_B)


def num_text_tokens(ids_BT: Ints) -> Ints:
    """Tokens of each row [B] between its [CLS] and its [SEP]."""
    num_real_B: Ints = (ids_BT != PAD_ID).sum(axis=1)
    return np.maximum(num_real_B - 2, 0)


def split_places(ids_BT: Ints, wanted_B: Ints, last_B: Ints, vocabulary: Vocabulary) -> Ints:
    """How many of its text tokens a row's first part gets [B]: 1 to `last_B`, as near to `wanted_B` as can be.

    A sentence ends there; in a row where none does, a word; 0 where no word does either.
    """
    places_T = np.arange(ids_BT.shape[1] - 1)  # behind [CLS], the first part's last token stands at its length
    allowed_BT = (places_T >= 1) & (places_T <= last_B[:, None])
    sentence_BT = allowed_BT & vocabulary.ends_sentence_V[ids_BT[:, :-1]]
    word_BT = allowed_BT & ~vocabulary.continues_V[ids_BT[:, 1:]]
    open_BT = np.where(sentence_BT.any(axis=1, keepdims=True), sentence_BT, word_BT)
    distance_BT = np.abs(places_T - np.maximum(wanted_B, 1)[:, None])
    nearest_B: Ints = np.where(open_BT, distance_BT, FARTHEST).argmin(axis=1)
    return nearest_B


def _moved(ids_BT: Ints, offsets_B: Ints, num_tokens: int) -> Ints:
    """At each of `num_tokens` positions the id that stands `offsets_B` further on; anything where there is none."""
    from_BT = (np.arange(num_tokens) + offsets_B[:, None]).clip(0, ids_BT.shape[1] - 1)
    moved_BT: Ints = np.take_along_axis(ids_BT, from_BT, axis=1)
    return moved_BT


def _join(first_BT: Ints, second_BT: Ints, first_B: Ints, second_B: Ints) -> tuple[Ints, Ints]:
    """Ids and segments [B, T] of the pairs; both parts, `first_B` and `second_B` tokens, stand where they belong."""
    positions_T = np.arange(first_BT.shape[1])
    middle_B1 = first_B[:, None] + 1
    end_B1 = middle_B1 + second_B[:, None] + 1
    ids_BT = np.where(positions_T < middle_B1, first_BT, second_BT)
    ids_BT = np.where((positions_T == middle_B1) | (positions_T == end_B1), SEP_ID, ids_BT)
    ids_BT = np.where(positions_T > end_B1, PAD_ID, ids_BT)
    return ids_BT, ((positions_T > middle_B1) & (positions_T <= end_B1)).astype(np.int64)
