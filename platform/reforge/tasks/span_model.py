"""A model that finds a stretch of a text: a softmax over its tokens for the start, and one for the end.

    ids, segments --backbone--> states --head--> scores of starts and ends --softmax over [CLS] and context--> loss

Shapes: B batch, T tokens.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reforge.batches import Batch
from reforge.heads import Head
from reforge.heads.head import IGNORED
from reforge.heads.span import NOT_REAL
from reforge.models import Backbone
from reforge.objectives import Inputs
from reforge.objectives.masking import CHOICE, random_shares
from reforge.tasks.answer_windows import ANSWER, CONTEXT, DRAWN
from reforge.tasks.row_set import SEGMENTS
from reforge.tasks.task import PAD_ID, Array, TaskModel


class SpanModel(TaskModel):
    """Where an answer starts and ends in a context, or [CLS] where it is not there (Devlin et al. 2018, section 4.3).

    The loss of a row is the mean of the start's and the end's cross-entropy, in nats.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Ids, segments, where an answer may start and end [B, T], and the first and last token of each answer [B, 2].

        Of a training batch's windows without the answer only those drawn for the epoch are there.
        """
        taken_B = drawn_rows(batch, seed)
        rows = np.flatnonzero(taken_B) if taken_B.any() else np.arange(len(taken_B))[:1]
        ids_BT = batch.ids[rows]
        real_BT = ids_BT != PAD_ID
        tensors = {"ids_BT": torch.from_numpy(ids_BT), "open_BT": torch.from_numpy(open_places(batch, rows))}
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        if self.backbone.frame.num_segments:
            tensors["segments_BT"] = torch.from_numpy(batch.extras[SEGMENTS][rows].astype(np.int64))
        if ANSWER not in batch.extras:
            return Inputs(tensors, {"loss": 0.0})
        aims_B = real_BT[:, 0] & taken_B[rows]
        answers_B2 = np.where(aims_B[:, None], batch.extras[ANSWER][rows], IGNORED)
        return Inputs({**tensors, "answers_B2": torch.from_numpy(answers_B2.astype(np.int64))}, {"loss": aims_B.sum()})

    def assess(self, **tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed loss, and the scores of each token as start and as end [B, T, 2]."""
        ids_BT, mask_BT = tensors["ids_BT"], tensors.get("mask_BT")
        states_BTD = self.backbone(ids_BT, mask_BT, tensors.get("segments_BT"))
        real_BT = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
        scores_BT2 = self.head(states_BTD, real_BT).masked_fill(~tensors["open_BT"][..., None], NOT_REAL)
        answers_B2 = tensors.get("answers_B2")
        if answers_B2 is None:
            return scores_BT2.new_zeros(()), {"scores_BT2": scores_BT2}
        loss = F.cross_entropy(scores_BT2, answers_B2, ignore_index=IGNORED, reduction="sum") / 2
        return loss, {"scores_BT2": scores_BT2}


def drawn_rows(batch: Batch, seed: int) -> Array:
    """Which rows are trained on in their epoch [B], a function of (seed, epoch, sample); all where it is negative."""
    if DRAWN not in batch.extras:
        return np.ones(len(batch.samples), dtype=bool)
    share_B = random_shares(batch, seed, CHOICE, num_draws=1)[:, 0]
    drawn_B: Array = (batch.epochs < 0) | (share_B < batch.extras[DRAWN])
    return drawn_B


def open_places(batch: Batch, rows: Array) -> Array:
    """Where an answer may start and end in `rows` [B, T]: in the context, or at [CLS]; nowhere in blank rows."""
    places_T = np.arange(batch.ids.shape[1])
    start_B1, stop_B1 = batch.extras[CONTEXT][rows].T[..., None]
    in_context_BT = (start_B1 <= places_T) & (places_T < stop_B1)
    is_open_BT: Array = (in_context_BT | (places_T == 0)) & (batch.ids[rows] != PAD_ID)
    return is_open_BT
