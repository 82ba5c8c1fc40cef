"""Models that answer for a whole text: a class, or a score.

    ids --augment--> ids --backbone--> states --head--> logits --cross-entropy--> loss
                                                   \\--> score --squared error--> loss

Shapes: B batch, T tokens, D d_model, K classes.
"""

from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reforge.batches import Batch
from reforge.heads import Head
from reforge.models import Backbone
from reforge.objectives import Inputs
from reforge.tasks.augmentation import Augmentation
from reforge.tasks.row_set import SEGMENTS
from reforge.tasks.task import PAD_ID, TaskModel

IGNORED = -100


class TextModel(TaskModel):
    """A backbone and a head that gives each text some numbers.

    target: the name among a batch's extras of what the loss compares them with
    """

    target: str

    def __init__(self, backbone: Backbone, head: Head, augment: Augmentation, num_special: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.augment, self.num_special = augment, num_special

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Ids, mask (where there is padding), segments (where the backbone tells them apart), and targets [B]."""
        changed = self.augment.change(batch, seed, self.num_special)
        real_BT = changed.ids != PAD_ID
        tensors = {"ids_BT": torch.from_numpy(changed.ids)}
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        if self.backbone.frame.num_segments:
            segments_BT = changed.extras.get(SEGMENTS, np.zeros_like(changed.ids))
            tensors["segments_BT"] = torch.from_numpy(segments_BT.astype(np.int64))
        if self.target not in batch.extras:
            return Inputs(tensors, {"loss": 0.0})
        targets_B, num_targets = self.targets(batch.extras[self.target], real_BT[:, 0])
        return Inputs({**tensors, "targets_B": targets_B}, {"loss": num_targets})

    def assess(self, **tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The summed loss, and what the head says of each text."""
        scores_BK = self.scores(tensors["ids_BT"], tensors.get("mask_BT"), tensors.get("segments_BT"))
        targets_B = tensors.get("targets_B")
        loss = scores_BK.new_zeros(()) if targets_B is None else self.loss_sum(scores_BK, targets_B)
        return loss, self.outputs(scores_BK)

    def scores(self, ids_BT: Tensor, mask_BT: Tensor | None, segments_BT: Tensor | None) -> Tensor:
        """The head's scores [B, K]; the last layer computes the states that the head looks at."""
        real_BT = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
        if self.head.first_only:
            firsts_B = torch.arange(len(ids_BT), device=ids_BT.device) * ids_BT.shape[1]
            states_BD = self.backbone(ids_BT, mask_BT, segments_BT, places_N=firsts_B)
            scores_BK: Tensor = self.head(states_BD[:, None], real_BT[:, :1])
        else:
            scores_BK = self.head(self.backbone(ids_BT, mask_BT, segments_BT), real_BT)
        return scores_BK

    @abstractmethod
    def targets(self, values_B: NDArray[np.generic], real_B: NDArray[np.bool_]) -> tuple[Tensor, float]:
        """What the loss takes for the values of the real rows [B], and over how many targets it is summed."""

    @abstractmethod
    def loss_sum(self, scores_BK: Tensor, targets_B: Tensor) -> Tensor:
        """The loss summed over targets."""

    @abstractmethod
    def outputs(self, scores_BK: Tensor) -> dict[str, Tensor]:
        """What predictions are made of, [B, ...]."""


class ClassModel(TextModel):
    """A class for each text: cross-entropy in nats, over the classes' weights as torch's weighted mean."""

    target = "label"

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        augment: Augmentation,
        num_special: int,
        weights: tuple[float, ...] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(backbone, head, augment, num_special)
        self.label_smoothing = label_smoothing
        self.class_weights = None if weights is None else np.array(weights)
        # Not in checkpoints: they are options.
        self.register_buffer("weights_K", None if weights is None else torch.tensor(weights), persistent=False)
        self.weights_K: Tensor | None

    def targets(self, values_B: NDArray[np.generic], real_B: NDArray[np.bool_]) -> tuple[Tensor, float]:
        """Classes, IGNORED in blank rows, and the sum of their weights."""
        classes_B = np.where(real_B, values_B, IGNORED).astype(np.int64)
        counted = real_B if self.class_weights is None else self.class_weights[classes_B[real_B]]
        return torch.from_numpy(classes_B), float(counted.sum())

    def loss_sum(self, scores_BK: Tensor, targets_B: Tensor) -> Tensor:
        """Cross-entropy summed, each times its class's weight."""
        return F.cross_entropy(
            scores_BK,
            targets_B,
            self.weights_K,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def outputs(self, scores_BK: Tensor) -> dict[str, Tensor]:
        """Logits."""
        return {"logits_BK": scores_BK}


class ScoreModel(TextModel):
    """A score for each text: squared error."""

    target = "score"

    def targets(self, values_B: NDArray[np.generic], real_B: NDArray[np.bool_]) -> tuple[Tensor, float]:
        """Scores, nan in blank rows, and how many there are."""
        return torch.from_numpy(np.where(real_B, values_B, np.nan).astype(np.float32)), float(real_B.sum())

    def loss_sum(self, scores_BK: Tensor, targets_B: Tensor) -> Tensor:
        """Squared errors summed."""
        errors_B = scores_BK.squeeze(1) - targets_B.nan_to_num()
        return errors_B.masked_fill(targets_B.isnan(), 0.0).square().sum()

    def outputs(self, scores_BK: Tensor) -> dict[str, Tensor]:
        """Scores."""
        return {"score_B": scores_BK.squeeze(1)}
