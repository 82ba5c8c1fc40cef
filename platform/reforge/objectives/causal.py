"""Causal language modelling: the next token from those before it (Radford et al. 2018; Kitaev et al. 2020).

    [CLS] a  b  [SEP] c  [PAD]      ids
      a   b [SEP] c   -    -        targets: the ids shifted; padding is none

Shapes: B batch, T tokens, N targets, D d_model, V vocabulary.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from reforge.batches import Batch
from reforge.models import Backbone, BackboneOptions, Cache
from reforge.objectives.continuation import continue_blocks
from reforge.objectives.masking import PAD_ID
from reforge.objectives.objective import Inputs, Objective, ObjectiveOptions, Sample, Scores, Totals, text_metrics
from reforge.objectives.output import OutputLayer
from reforge.tokenizers import Vocabulary


class CausalLMOptions(ObjectiveOptions):
    """Causal language modelling; `tie_embeddings`: the output layer uses the token embeddings."""

    metric_names: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "bits_per_byte", "accuracy")
    kind: Literal["causal"] = "causal"
    causal: ClassVar[bool] = True
    tie_embeddings: bool = False

    @property
    def target_share(self) -> float:
        """Every token but the first is a target; `output.CHUNK_VALUES` bounds how many logits exist at once."""
        return 1.0

    def build(self, model: BackboneOptions, vocabulary: Vocabulary, block_tokens: int) -> "CausalLM":
        """The causal language model."""
        return CausalLM(self, model.build(self.frame(vocabulary.size, block_tokens)), vocabulary)


class CausalLM(Objective):
    """A causal backbone with an output layer that guesses every next token, a chunk of them at a time."""

    terms: Mapping[str, float] = {"causal": 1.0}
    count_names = ("num_correct",)
    metric_names = CausalLMOptions.metric_names

    def __init__(self, options: CausalLMOptions, backbone: Backbone, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.options = options
        self.vocabulary = vocabulary
        self.backbone = backbone
        self.output = OutputLayer(backbone, options.tie_embeddings)

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """The ids [B, T] as they are; where there is padding its mask and the places [N] before the targets.

        Nothing is random. Places count in the flattened batch; without padding they are all but each row's last.
        """
        real_BT = batch.ids != PAD_ID
        before_BT = np.zeros_like(real_BT)
        before_BT[:, :-1] = real_BT[:, 1:]
        tensors = {"ids_BT": torch.from_numpy(batch.ids)}
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
            tensors["places_N"] = torch.from_numpy(np.flatnonzero(before_BT))
        return Inputs(tensors, {"causal": int(before_BT.sum())})

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None, places_N: Tensor | None = None) -> Scores:
        """Summed cross-entropy (nats) and number of right guesses of every real token but a row's first."""
        hidden_BTD = self.backbone(ids_BT, mask_BT)
        if places_N is None:
            hidden_ND, targets_N = hidden_BTD[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten()
        else:
            hidden_ND, targets_N = hidden_BTD.flatten(0, 1)[places_N], ids_BT.flatten()[places_N + 1]
        loss = self.output.loss_sum(hidden_ND, targets_N)
        counts = {} if self.training else {"num_correct": self.output.num_correct(hidden_ND, targets_N)}
        return Scores({"causal": loss}, counts)

    @torch.no_grad()
    def logits(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of what follows each position, for a user who has text to look at."""
        logits_BTV: Tensor = self.output(self.backbone(ids_BT, mask_BT))
        return logits_BTV

    @torch.no_grad()
    def next_logits(self, ids_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits [B, V] of what follows the last of the ids; with a cache the ids go on after the tokens it holds."""
        ids_BT = ids_BT.to(self.output.bias.device)
        logits_BV: Tensor = self.output(self.backbone(ids_BT, cache=cache)[:, -1])
        return logits_BV

    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """Loss in nats a token, perplexity, bits per byte, share of next tokens guessed right.

        The ends of documents are guessed too. They are no text: bits per byte spreads the mean over text tokens only.
        """
        loss = totals.mean("causal")
        return {
            "loss": loss,
            **text_metrics(loss, tokens_per_byte),
            "accuracy": totals.counts["num_correct"] / max(totals.num_targets["causal"], 1.0),
        }

    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[Sample]:
        """For each block: how the model goes on after its first tokens."""
        return continue_blocks(tokenizer, self.vocabulary, blocks_NT, self.next_logits, self.backbone.new_cache)
