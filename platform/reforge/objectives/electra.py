"""Replaced-token detection: ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555).

    ids --hide--> generator, a small masked LM --draw--> ids, some replaced --> discriminator: which ones?

The discriminator is the `backbone` that fine-tuning takes up; the generator is there to make its task. They share
their embeddings. Shapes: B batch, T tokens, N masked positions, D d_model, V vocabulary.
"""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from reforge.batches import Batch
from reforge.models import Backbone, BackboneOptions
from reforge.objectives.masking import PAD_ID, MaskingOptions
from reforge.objectives.objective import Inputs, Objective, Pass, Sample, Scores, Totals, text_metrics
from reforge.objectives.output import OutputLayer, chunk_rows, wide
from reforge.objectives.show_replaced import show_replaced
from reforge.tokenizers import Vocabulary

# Of the masks of samples: neither training nor validation counts so.
SAMPLE_EPOCH = -2


class ElectraOptions(MaskingOptions):
    """Replaced-token detection; `model:` is the discriminator. Every hidden token becomes [MASK], unlike in MLM.

    generator_ratio: the generator's share of the discriminator's width and heads
    generator_weight, discriminator_weight: of the two means in the loss
    """

    metric_names: ClassVar[tuple[str, ...]] = (
        "loss", "generator_loss", "discriminator_loss", "relative_discriminator_loss", "perplexity", "bits_per_byte",
        "masked_accuracy", "discriminator_accuracy", "replaced_precision", "replaced_recall",
    )  # fmt: skip
    kind: Literal["electra"] = "electra"
    mask_token_prob: float = Field(1.0, ge=0, le=1)
    random_token_prob: float = Field(0.0, ge=0, le=1)
    generator_ratio: float = Field(0.25, gt=0, le=1)
    generator_weight: float = Field(1.0, gt=0)
    discriminator_weight: float = Field(50.0, gt=0)

    def passes(self, model: BackboneOptions) -> list[Pass]:
        """The generator's, and the discriminator's over all tokens."""
        generator = model.scaled(self.generator_ratio)
        return [Pass(generator, self.target_share, at_targets=True), Pass(model, 0.0, at_targets=False)]

    def build(self, model: BackboneOptions, vocabulary: Vocabulary, block_tokens: int) -> "Electra":
        """Discriminator and generator."""
        frame = self.frame(vocabulary.size, block_tokens)
        discriminator = model.build(frame)
        generator = model.scaled(self.generator_ratio).build(frame)
        return Electra(self, discriminator, generator, vocabulary)


class Electra(Objective):
    """A discriminator, and a generator whose output layer is tied to the embeddings that both share."""

    count_names = (
        "generator_correct", "discriminator_correct", "true_positives", "predicted_positives", "actual_positives",
    )  # fmt: skip
    metric_names = ElectraOptions.metric_names

    def __init__(
        self, options: ElectraOptions, discriminator: Backbone, generator: Backbone, vocabulary: Vocabulary
    ) -> None:
        super().__init__()
        self.options = options
        self.vocabulary = vocabulary
        self.terms = {"generator": options.generator_weight, "discriminator": options.discriminator_weight}
        # First, so that the shared embeddings have their names in what fine-tuning loads.
        self.backbone = discriminator
        generator.share_embeddings(discriminator)
        self.generator = generator
        self.output = OutputLayer(generator, tie_embeddings=True)
        width = discriminator.d_model
        self.detector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Masked ids [B, T], the places [N] (in the flattened batch) and ids [N] of what is hidden, the padding mask.

        The discriminator is asked about every ordinary token, hidden or not: special tokens are never replaced, and
        that they are not says nothing.
        """
        masked = self.options.mask(batch, seed, self.vocabulary)
        tensors = masked.tensors()
        real_BT = batch.ids != PAD_ID
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        num_scored = int((batch.ids >= self.vocabulary.num_special).sum())
        return Inputs(tensors, {"generator": len(tensors["places_N"]), "discriminator": num_scored})

    def forward(self, ids_BT: Tensor, places_N: Tensor, targets_N: Tensor, mask_BT: Tensor | None = None) -> Scores:
        """Summed cross-entropies (nats): of the N hidden tokens, and of original or replaced for every ordinary token.

        What stands in the hidden places is drawn from torch's random state.
        """
        hidden_ND = self.generator(ids_BT, mask_BT, places_N=places_N)
        original_BT = put(ids_BT, places_N, targets_N)
        corrupted_BT = put(ids_BT, places_N, self.draw(hidden_ND))
        logits_BT = self.detect(corrupted_BT, mask_BT)
        scored_BT = original_BT >= self.vocabulary.num_special
        replaced_BT = corrupted_BT != original_BT
        losses = {
            "generator": self.output.loss_sum(hidden_ND, targets_N),
            "discriminator": detection_loss(logits_BT, replaced_BT, scored_BT),
        }
        if self.training:
            return Scores(losses, {})
        num_correct = self.output.num_correct(hidden_ND, targets_N)
        return Scores(losses, {"generator_correct": num_correct, **count_found(logits_BT > 0, replaced_BT, scored_BT)})

    def detect(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """The discriminator's logits [B, T] that a token is not the original one."""
        return wide(self.detector(self.backbone(ids_BT, mask_BT)).squeeze(-1))

    @torch.no_grad()
    def draw(self, hidden_ND: Tensor) -> Tensor:
        """A token [N] from the generator's distribution at each place, at most a chunk of logits at a time."""
        parts = torch.split(hidden_ND, chunk_rows(self.output.matrix()))
        return torch.cat([draw_token(self.output(part_ND)) for part_ND in parts])

    @torch.no_grad()
    def logits(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """The generator's logits [B, T, V], for a user who has [MASK] to fill."""
        logits_BTV: Tensor = self.output(self.generator(ids_BT, mask_BT))
        return logits_BTV

    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """The loss and its two parts, and how well each model does.

        Perplexity, bits per byte and masked accuracy are the generator's, a model smaller than the one trained for.
        replaced_precision: share of the tokens called replaced that are; replaced_recall: share of the replaced tokens
        that are called so; 0 where there are none. Both losses can rise as the other model gets better.
        relative_discriminator_loss: as a share of what someone has who only knows how many tokens are replaced, so
        that it compares where those are more or fewer (normalized entropy, He et al. 2014,
        https://doi.org/10.1145/2648584.2648589); 1 where all or none are.
        """
        generator_loss, counts = totals.mean("generator"), totals.counts
        discriminator_loss = totals.mean("discriminator")
        uninformed = entropy(share(counts["actual_positives"], totals.num_targets["discriminator"]))
        return {
            "loss": self.weighted(totals),
            "generator_loss": generator_loss,
            "discriminator_loss": discriminator_loss,
            "relative_discriminator_loss": discriminator_loss / uninformed if uninformed else 1.0,
            **text_metrics(generator_loss, tokens_per_byte),
            "masked_accuracy": share(counts["generator_correct"], totals.num_targets["generator"]),
            "discriminator_accuracy": share(counts["discriminator_correct"], totals.num_targets["discriminator"]),
            "replaced_precision": share(counts["true_positives"], counts["predicted_positives"]),
            "replaced_recall": share(counts["true_positives"], counts["actual_positives"]),
        }

    @torch.no_grad()
    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[Sample]:
        """For each block: tokens that the generator replaced, and which of them the discriminator found."""
        shown = (self._sample(tokenizer, ids_T, number) for number, ids_T in enumerate(blocks_NT))
        return [sample for sample in shown if sample is not None]

    def _sample(self, tokenizer: Tokenizer, ids_T: np.ndarray, number: int) -> Sample | None:
        batch = Batch(ids_T[None], np.array([SAMPLE_EPOCH]), np.array([number]))
        inputs = self.collate(batch, seed=0).to(self.output.bias.device).tensors
        mask_BT = inputs.get("mask_BT")
        hidden_ND = self.generator(inputs["ids_BT"], mask_BT, places_N=inputs["places_N"])
        corrupted_BT = put(inputs["ids_BT"], inputs["places_N"], self.draw(hidden_ND))
        probs_BT = self.detect(corrupted_BT, mask_BT).sigmoid()
        corrupted_T, probs_T = corrupted_BT[0].cpu().numpy(), probs_BT[0].cpu().numpy()
        return show_replaced(tokenizer, self.vocabulary.num_special, ids_T, corrupted_T, probs_T)


def put(ids_BT: Tensor, places_N: Tensor, new_N: Tensor) -> Tensor:
    """A copy of ids [B, T] with other ones at the given places of the flattened batch."""
    return ids_BT.flatten().scatter(0, places_N, new_N).view_as(ids_BT)


def draw_token(logits_NV: Tensor) -> Tensor:
    """One id [N] from each softmax: the highest logit after Gumbel noise is added (Gumbel 1954)."""
    exponential_NV = torch.empty_like(logits_NV).exponential_()
    return (logits_NV - exponential_NV.log_()).argmax(-1)


def detection_loss(logits_BT: Tensor, replaced_BT: Tensor, scored_BT: Tensor) -> Tensor:
    """Binary cross-entropy in nats summed over the scored positions."""
    loss_BT = F.binary_cross_entropy_with_logits(logits_BT, replaced_BT.to(logits_BT.dtype), reduction="none")
    return loss_BT.masked_fill(~scored_BT, 0.0).sum()


def count_found(called_BT: Tensor, replaced_BT: Tensor, scored_BT: Tensor) -> dict[str, Tensor]:
    """Numbers of scored positions by what they were called and what they are."""
    called_BT, replaced_BT = called_BT & scored_BT, replaced_BT & scored_BT
    counts = {
        "discriminator_correct": (called_BT == replaced_BT) & scored_BT,
        "true_positives": called_BT & replaced_BT,
        "predicted_positives": called_BT,
        "actual_positives": replaced_BT,
    }
    return {name: hits_BT.sum().float() for name, hits_BT in counts.items()}


def entropy(probability: float) -> float:
    """Of an event, in nats."""
    return -sum(p * math.log(p) for p in (probability, 1 - probability) if p > 0)


def share(part: float, whole: float) -> float:
    """`part` of `whole`, 0 where there is none."""
    return part / whole if whole else 0.0
