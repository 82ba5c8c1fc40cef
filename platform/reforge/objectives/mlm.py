"""Masked language modelling (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

Shapes: B batch, T tokens, N masked positions, D d_model, V vocabulary.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from reforge.batches import Batch
from reforge.models import Backbone, BackboneOptions
from reforge.objectives.fill_mask import fill_masks
from reforge.objectives.masking import PAD_ID, MaskingOptions
from reforge.objectives.objective import Inputs, Objective, Sample, Scores, Totals, text_metrics
from reforge.objectives.output import OutputLayer
from reforge.tokenizers import Vocabulary


class MaskedLMOptions(MaskingOptions):
    """Masked language modelling; `tie_embeddings`: the output layer uses the token embeddings."""

    metric_names: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "bits_per_byte", "masked_accuracy")
    kind: Literal["mlm"] = "mlm"
    tie_embeddings: bool = False

    def build(self, model: BackboneOptions, vocabulary: Vocabulary, block_tokens: int) -> "MaskedLM":
        """The masked language model."""
        return MaskedLM(self, model.build(self.frame(vocabulary.size, block_tokens)), vocabulary)


class MaskedLM(Objective):
    """A backbone with an output layer that is applied at the masked positions only."""

    count_names = ("num_correct",)
    metric_names = MaskedLMOptions.metric_names

    def __init__(self, options: MaskedLMOptions, backbone: Backbone, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.terms = {"mlm": 1.0}
        self.options = options
        self.vocabulary = vocabulary
        self.backbone = backbone
        self.output = OutputLayer(backbone, options.tie_embeddings)

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Masked ids [B, T], the places [N] (in the flattened batch) and ids [N] of the targets, the padding mask."""
        masked = self.options.mask(batch, seed, self.vocabulary)
        tensors = masked.tensors()
        real_BT = batch.ids != PAD_ID
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        return Inputs(tensors, {"mlm": len(tensors["places_N"])})

    def forward(self, ids_BT: Tensor, places_N: Tensor, targets_N: Tensor, mask_BT: Tensor | None = None) -> Scores:
        """Summed cross-entropy (nats) and number of right guesses over the N masked positions."""
        hidden_ND = self.backbone(ids_BT, mask_BT, places_N=places_N)
        loss = self.output.loss_sum(hidden_ND, targets_N)
        counts = {} if self.training else {"num_correct": self.output.num_correct(hidden_ND, targets_N)}
        return Scores({"mlm": loss}, counts)

    @torch.no_grad()
    def logits(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] at every position, for a user who has text to look at; ids may be on another device."""
        device = self.output.bias.device
        ids_BT, mask_BT = ids_BT.to(device), None if mask_BT is None else mask_BT.to(device)
        logits_BTV: Tensor = self.output(self.backbone(ids_BT, mask_BT))
        return logits_BTV

    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """Loss in nats a masked token, perplexity, bits per byte (Gao et al. 2020, section 3.1), share of hits.

        Bits per byte is the loss a token spread over the bytes a token covers: it compares across vocabularies, as long
        as they read the text alike (lower case or not) and few words are [UNK], which is never asked for.
        """
        loss = totals.mean("mlm")
        return {
            "loss": loss,
            **text_metrics(loss, tokens_per_byte),
            "masked_accuracy": totals.counts["num_correct"] / max(totals.num_targets["mlm"], 1.0),
        }

    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[Sample]:
        """For each block: its most central one-token word hidden, the rest of the block left as context."""
        return fill_masks(tokenizer, self.vocabulary, blocks_NT, self.logits)
