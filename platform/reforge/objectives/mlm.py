"""Masked language modelling (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

Shapes: B batch, T tokens, N masked positions, D d_model, V vocabulary.
"""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from reforge.batches import Batch
from reforge.models import Backbone
from reforge.objectives.masking import IGNORED, MASK_ID, NUM_SPECIAL, mask_tokens
from reforge.objectives.objective import FillMask, Inputs, Objective, ObjectiveOptions, Scores, Totals
from reforge.spec import Problem
from reforge.tokenizers import SPECIAL_TOKENS

PAD_ID = SPECIAL_TOKENS.index("[PAD]")
NUM_GUESSES = 5
SHOWN_TOKENS_EACH_SIDE = 14


class MaskedLMOptions(ObjectiveOptions):
    """`mask_prob` of the ordinary tokens are hidden: 80 % as [MASK], 10 % as a random token, 10 % unchanged."""

    kind: Literal["mlm"] = "mlm"
    mask_prob: float = Field(0.15, gt=0, lt=1)
    mask_token_prob: float = Field(0.8, ge=0, le=1)
    random_token_prob: float = Field(0.1, ge=0, le=1)

    def problems(self) -> Iterator[Problem]:
        """The two shares are shares of one whole."""
        if self.mask_token_prob + self.random_token_prob > 1:
            rule = f"must be at most 1 - mask_token_prob ({1 - self.mask_token_prob:g})"
            yield Problem(("random_token_prob",), rule, self.random_token_prob)

    @property
    def target_share(self) -> float:
        """Logits are computed at the masked positions only."""
        return self.mask_prob

    def build(self, backbone: Backbone, vocab_size: int) -> "MaskedLM":
        """The masked language model around `backbone`."""
        return MaskedLM(self, backbone, vocab_size)


class MaskedLM(Objective):
    """A backbone with an output layer that is applied at the masked positions only."""

    metric_names = ("loss", "perplexity", "bits_per_byte", "masked_accuracy")

    def __init__(self, options: MaskedLMOptions, backbone: Backbone, vocab_size: int) -> None:
        super().__init__()
        self.options = options
        self.backbone = backbone
        self.vocab_size = vocab_size
        self.to_logits = nn.Linear(backbone.d_model, vocab_size)

    def collate(self, batch: Batch, seed: int) -> Inputs:
        """Masked ids [B, T], the places [N] (in the flattened batch) and ids [N] of the targets, the padding mask."""
        o = self.options
        masked = mask_tokens(batch, seed, self.vocab_size, o.mask_prob, o.mask_token_prob, o.random_token_prob)
        places_N = np.flatnonzero(masked.targets_BT != IGNORED)
        tensors = {
            "ids_BT": torch.from_numpy(masked.ids_BT),
            "places_N": torch.from_numpy(places_N),
            "targets_N": torch.from_numpy(masked.targets_BT.reshape(-1)[places_N]),
        }
        real_BT = batch.ids != PAD_ID
        if not real_BT.all():
            tensors["mask_BT"] = torch.from_numpy(real_BT)
        return Inputs(tensors, len(places_N))

    def forward(self, ids_BT: Tensor, places_N: Tensor, targets_N: Tensor, mask_BT: Tensor | None = None) -> Scores:
        """Summed cross-entropy (nats) and number of right guesses over the N masked positions."""
        hidden_BTD = self.backbone(ids_BT, mask_BT)
        logits_NV = self.to_logits(hidden_BTD.flatten(0, 1)[places_N]).float()
        return Scores(
            loss_sum=F.cross_entropy(logits_NV, targets_N, reduction="sum"),
            num_targets=torch.tensor(float(len(targets_N)), device=logits_NV.device),
            num_correct=(logits_NV.argmax(-1) == targets_N).float().sum(),
        )

    @torch.no_grad()
    def logits(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] at every position, for a user who has text to look at."""
        logits_BTV: Tensor = self.to_logits(self.backbone(ids_BT, mask_BT))
        return logits_BTV.float()

    def metrics(self, totals: Totals, tokens_per_byte: float) -> dict[str, float]:
        """Loss in nats a masked token, perplexity, bits per byte (Gao et al. 2020, section 3.1), share of hits.

        Bits per byte is the loss a token spread over the bytes a token covers: it compares across vocabularies, as long
        as they read the text alike (lower case or not) and few words are [UNK], which is never asked for.
        """
        loss = totals.loss_sum / totals.num_targets
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": loss / math.log(2) * tokens_per_byte,
            "masked_accuracy": totals.num_correct / totals.num_targets,
        }

    @torch.no_grad()
    def samples(self, tokenizer: Tokenizer, blocks_NT: np.ndarray) -> list[FillMask]:
        """For each block: its most central one-token word hidden, the rest of the block left as context."""
        found = []
        device = self.to_logits.weight.device
        for ids_T in blocks_NT:
            place = _central_word(tokenizer, ids_T)
            if place is None:
                continue
            hidden_T = ids_T.copy()
            hidden_T[place] = MASK_ID
            ids_BT = torch.from_numpy(hidden_T)[None].to(device)
            probs_V = self.logits(ids_BT, ids_BT != PAD_ID)[0, place].softmax(-1)
            probs_V[:NUM_SPECIAL] = 0
            top = probs_V.topk(min(NUM_GUESSES, self.vocab_size))
            guesses = tuple(
                (_word(tokenizer, i), p) for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            )
            found.append(FillMask(_show(tokenizer, ids_T, place), _word(tokenizer, int(ids_T[place])), guesses))
        return found


def _word(tokenizer: Tokenizer, token_id: int) -> str:
    return tokenizer.id_to_token(token_id) or ""


def _central_word(tokenizer: Tokenizer, ids_T: np.ndarray) -> int | None:
    """The place nearest the middle that is a whole word of at least three letters (two where letters are syllables)."""
    words = [_word(tokenizer, int(i)) for i in ids_T]
    middle = int((ids_T != PAD_ID).sum()) // 2

    def fits(place: int) -> bool:
        word, after = words[place], words[place + 1]
        long_enough = len(word) >= (3 if word.isascii() else 2)
        return ids_T[place] >= NUM_SPECIAL and word.isalpha() and long_enough and not after.startswith("##")

    places = [place for place in range(1, len(words) - 1) if fits(place)]
    return min(places, key=lambda place: abs(place - middle), default=None)


def _show(tokenizer: Tokenizer, ids_T: np.ndarray, place: int) -> str:
    before = ids_T[max(0, place - SHOWN_TOKENS_EACH_SIDE) : place].tolist()
    after = ids_T[place + 1 : place + 1 + SHOWN_TOKENS_EACH_SIDE].tolist()
    # Only the sentence around the mask belongs to its document: what stands beyond a separator is another one.
    separator = SPECIAL_TOKENS.index("[SEP]")
    if separator in before:
        before = before[len(before) - before[::-1].index(separator) :]
    if separator in after:
        after = after[: after.index(separator)]
    text = f"{tokenizer.decode(before)} [MASK] {tokenizer.decode(after)}"
    return " ".join(text.split())
