"""Masked language modelling with next-sentence prediction: BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

Shapes: B batch, T tokens, N masked positions, P rows that are pairs, D d_model, V vocabulary.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from reforge.batches import Batch
from reforge.models import Backbone, BackboneOptions
from reforge.objectives.fill_mask import fill_masks
from reforge.objectives.masking import PAD_ID, MaskingOptions
from reforge.objectives.objective import Inputs, Objective, Sample, Scores, Totals, text_metrics
from reforge.objectives.output import OutputLayer, wide
from reforge.objectives.sentence_pairs import make_pairs
from reforge.tokenizers import Vocabulary


class MaskedLMWithNextSentenceOptions(MaskingOptions):
    """Masked language modelling of sentence pairs, and whether the second follows on the first.

    next_sentence_prob: share of the pairs whose second part does; the others' comes from another document
    mlm_weight, nsp_weight: of the two means in the loss
    tie_embeddings: the output layer uses the token embeddings
    """

    metric_names: ClassVar[tuple[str, ...]] = (
        "loss", "mlm_loss", "nsp_loss", "perplexity", "bits_per_byte", "masked_accuracy", "nsp_accuracy",
    )  # fmt: skip
    kind: Literal["mlm_nsp"] = "mlm_nsp"
    tie_embeddings: bool = False
    next_sentence_prob: float = Field(0.5, gt=0, lt=1)
    mlm_weight: float = Field(1.0, gt=0)
    nsp_weight: float = Field(1.0, gt=0)
    num_segments: ClassVar[int] = 2
    needs_partners: ClassVar[bool] = True

    def build(self, model: BackboneOptions, vocabulary: Vocabulary, block_tokens: int) -> "MaskedLMWithNextSentence":
        """The model of both tasks."""
        return MaskedLMWithNextSentence(self, model.build(self.frame(vocabulary.size, block_tokens)), vocabulary)


class MaskedLMWithNextSentence(Objective):
    """A backbone with an output layer at the masked positions and a pooler with two classes on [CLS]."""

    needs_partners = True
    count_names = ("mlm_correct", "nsp_correct")
    metric_names = MaskedLMWithNextSentenceOptions.metric_names

    def __init__(self, options: MaskedLMWithNextSentenceOptions, backbone: Backbone, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.options = options
        self.vocabulary = vocabulary
        self.terms = {"mlm": options.mlm_weight, "nsp": options.nsp_weight}
        self.backbone = backbone
        self.output = OutputLayer(backbone, options.tie_embeddings)
        self.pooler = nn.Sequential(nn.Linear(backbone.d_model, backbone.d_model), nn.Tanh())
        self.next_sentence = nn.Linear(backbone.d_model, 2)

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Masked pairs [B, T] and their segments, the masked places and ids [N], the pairs' rows and classes [P].

        Class 0 is a second part that follows on the first, class 1 one from the partner, as in BERT. Rows too short for
        two parts, and all rows where the batch has no partners, are masked as they are and get no class.
        """
        pairs = make_pairs(batch, seed, self.vocabulary, self.options.next_sentence_prob)
        masked = self.options.mask(batch._replace(ids=pairs.ids), seed, self.vocabulary)
        rows_P = np.flatnonzero(pairs.is_pair)
        tensors = {
            **masked.tensors(),
            "segments_BT": torch.from_numpy(pairs.segments),
            "rows_P": torch.from_numpy(rows_P),
            "classes_P": torch.from_numpy(pairs.not_next[rows_P].astype(np.int64)),
        }
        real_BT = pairs.ids != PAD_ID
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        return Inputs(tensors, {"mlm": len(tensors["places_N"]), "nsp": len(rows_P)})

    def forward(
        self,
        ids_BT: Tensor,
        places_N: Tensor,
        targets_N: Tensor,
        segments_BT: Tensor,
        rows_P: Tensor,
        classes_P: Tensor,
        mask_BT: Tensor | None = None,
    ) -> Scores:
        """Summed cross-entropies (nats) and numbers of right guesses of the N masked positions and the P pairs."""
        firsts_P = rows_P * ids_BT.shape[1]  # the place of each pair's [CLS]
        hidden_MD = self.backbone(ids_BT, mask_BT, segments_BT, places_N=torch.cat([places_N, firsts_P]))
        hidden_ND, hidden_PD = hidden_MD[: len(places_N)], hidden_MD[len(places_N) :]
        logits_P2 = wide(self.next_sentence(self.pooler(hidden_PD)))
        losses = {
            "mlm": self.output.loss_sum(hidden_ND, targets_N),
            "nsp": F.cross_entropy(logits_P2, classes_P, reduction="sum"),
        }
        if self.training:
            return Scores(losses, {})
        nsp_correct = (logits_P2.argmax(-1) == classes_P).float().sum()
        return Scores(
            losses, {"mlm_correct": self.output.num_correct(hidden_ND, targets_N), "nsp_correct": nsp_correct}
        )

    @torch.no_grad()
    def logits(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] at every position of texts that are not pairs, wherever the ids are."""
        device = self.output.bias.device
        ids_BT, mask_BT = ids_BT.to(device), None if mask_BT is None else mask_BT.to(device)
        logits_BTV: Tensor = self.output(self.backbone(ids_BT, mask_BT, torch.zeros_like(ids_BT)))
        return logits_BTV

    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """The loss, its two parts in nats a target, and how many guesses are right.

        Perplexity and bits per byte are those of the masked positions.
        """
        mlm_loss = totals.mean("mlm")
        return {
            "loss": self.weighted(totals),
            "mlm_loss": mlm_loss,
            "nsp_loss": totals.mean("nsp"),
            **text_metrics(mlm_loss, tokens_per_byte),
            "masked_accuracy": totals.counts["mlm_correct"] / max(totals.num_targets["mlm"], 1.0),
            "nsp_accuracy": totals.counts["nsp_correct"] / max(totals.num_targets["nsp"], 1.0),
        }

    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[Sample]:
        """For each block: its most central one-token word hidden, the rest of the block left as context."""
        return fill_masks(tokenizer, self.vocabulary, blocks_NT, self.logits)
