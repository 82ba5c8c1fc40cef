"""A model that tags the units of a text: a head over the states of their first pieces.

    ids --mask some--> backbone, its last layer at the places alone --> states --head--> emissions --> loss, tags

Shapes: B batch, T tokens, W positions that a row tags, D d_model, K tags.
"""

import numpy as np
import torch
from torch import Tensor

from reforge.batches import Batch
from reforge.heads import TokenHead
from reforge.models import Backbone
from reforge.objectives import Inputs
from reforge.tasks.augmentation import Augmentation
from reforge.tasks.task import PAD_ID, TaskModel

PLACES, TAGS = "places", "tags"  # extras of a row: where its positions are among its tokens, and their tags


class TokenModel(TaskModel):
    """A backbone and a tagger. The loss is a mean over tagged positions, weighted by their tags' weights if any."""

    def __init__(
        self,
        backbone: Backbone,
        head: TokenHead,
        augment: Augmentation,
        num_special: int,
        weights: tuple[float, ...] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: TokenHead = head
        self.augment, self.num_special = augment, num_special
        self.label_smoothing = label_smoothing
        self.tag_weights = None if weights is None else np.array(weights)
        # Not in checkpoints: they are options.
        self.register_buffer("weights_K", None if weights is None else torch.tensor(weights), persistent=False)
        self.weights_K: Tensor | None

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Ids, mask (where there is padding), segments (where the backbone tells them apart), places, tags [B, W]."""
        ids_BT = self.augment.change(batch, seed, self.num_special).ids
        real_BT = ids_BT != PAD_ID
        places_BW = batch.extras[PLACES].astype(np.int64)
        tensors = {"ids_BT": torch.from_numpy(ids_BT), "places_BW": torch.from_numpy(places_BW)}
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        if self.backbone.frame.num_segments:
            tensors["segments_BT"] = torch.zeros(ids_BT.shape, dtype=torch.int64)
        if TAGS not in batch.extras:
            return Inputs(tensors, {"loss": 0.0})
        tags_BW = batch.extras[TAGS].astype(np.int64)
        aims_BW = (places_BW > 0) & real_BT[:, :1]
        counted = aims_BW if self.tag_weights is None else self.tag_weights[tags_BW[aims_BW]]
        return Inputs({**tensors, "tags_BW": torch.from_numpy(tags_BW)}, {"loss": float(counted.sum())})

    def assess(self, **tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed loss, and the scores of each position's tags [B, W, K]."""
        ids_BT, places_BW = tensors["ids_BT"], tensors["places_BW"]
        real_BW = (places_BW > 0) & (ids_BT[:, :1] != PAD_ID)  # [CLS] is at 0, which no unit begins at
        rows_B1 = torch.arange(len(ids_BT), device=ids_BT.device)[:, None]
        places_N = (rows_B1 * ids_BT.shape[1] + places_BW).flatten()
        states_ND = self.backbone(ids_BT, tensors.get("mask_BT"), tensors.get("segments_BT"), places_N=places_N)
        states_BWD = states_ND.view(*places_BW.shape, -1).masked_fill(~real_BW[..., None], 0.0)
        scores_BWK = self.head(states_BWD, real_BW)
        tags_BW = tensors.get("tags_BW")
        if tags_BW is None:
            return scores_BWK.new_zeros(()), {"scores_BWK": scores_BWK}
        loss = self.head.loss_sum(scores_BWK, tags_BW, real_BW, self.weights_K, self.label_smoothing)
        return loss, {"scores_BWK": scores_BWK}
