"""Masked language modelling: what the loss is a mean of, known answers, and samples to look at."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models

from reforge.batches import Batch
from reforge.models import BACKBONES
from reforge.objectives import Totals
from reforge.objectives.mlm import MaskedLM, MaskedLMOptions
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

VOCAB, BLOCK = 50, 24


def model(backbone: str = "reformer", **options: bool) -> MaskedLM:
    torch.manual_seed(0)
    small = BACKBONES[backbone](d_model=16, depth=1, num_heads=2, attention="exact")
    return MaskedLMOptions(**options).build(small, Vocabulary.plain(VOCAB), BLOCK).eval()


def batch() -> Batch:
    ids = np.random.default_rng(0).integers(5, VOCAB, (4, BLOCK))
    ids[:, 0], ids[3, 15:] = 2, 0
    return Batch(ids, np.zeros(4, dtype=np.int64), np.arange(4))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_the_loss_is_the_cross_entropy_of_the_logits_at_what_was_hidden(backbone: str, tie_embeddings: bool) -> None:
    objective = model(backbone, tie_embeddings=tie_embeddings)
    tensors = objective.collate(batch(), seed=1).tensors
    scores = objective(**tensors)
    logits = objective.logits(tensors["ids_BT"], tensors["mask_BT"]).flatten(0, 1)[tensors["places_N"]]
    expected = F.cross_entropy(logits, tensors["targets_N"], reduction="sum")
    torch.testing.assert_close(scores.losses["mlm"].detach(), expected)
    assert scores.counts["num_correct"] == (logits.argmax(-1) == tensors["targets_N"]).sum()


def test_a_model_that_knows_nothing_has_the_loss_of_a_die() -> None:
    objective = model()
    assert objective.output.weight is not None
    torch.nn.init.zeros_(objective.output.weight)
    inputs = objective.collate(batch(), seed=1)
    loss = objective(**inputs.tensors).losses["mlm"].item() / inputs.num_targets["mlm"]
    assert loss == pytest.approx(np.log(VOCAB))


def test_tied_output_uses_the_embeddings_and_has_no_matrix_of_its_own() -> None:
    tied, untied = model(tie_embeddings=True), model()
    assert tied.output.matrix() is tied.backbone.token_weight
    names = [name for name, p in tied.named_parameters() if VOCAB in p.shape]
    assert len(names) == 2  # embeddings and bias
    assert len([name for name, p in untied.named_parameters() if VOCAB in p.shape]) == 3


def test_whole_words_reach_the_masks() -> None:
    continues = np.arange(VOCAB) % 2 == 1
    vocabulary = Vocabulary(VOCAB, continues, np.zeros(VOCAB, dtype=bool))
    objective = MaskedLMOptions(whole_words=True).build(
        BACKBONES["reformer"](d_model=16, depth=1, num_heads=2), vocabulary, BLOCK
    )
    ids = np.tile([10, 11, 13], (4, 8))
    places = objective.collate(Batch(ids, np.zeros(4, dtype=np.int64), np.arange(4)), seed=1).tensors["places_N"]
    assert len(places) > 0
    assert set(places.tolist()) == {3 * (int(place) // 3) + offset for place in places for offset in range(3)}


def test_metrics_are_those_of_the_counts() -> None:
    metrics = model().metrics(Totals({"mlm": 20.0}, {"mlm": 10.0}, {"num_correct": 4.0}), tokens_per_byte=0.25)
    assert metrics == {
        "loss": 2.0,
        "perplexity": pytest.approx(np.exp(2.0)),
        "bits_per_byte": pytest.approx(2.0 / np.log(2) * 0.25),
        "masked_accuracy": 0.4,
    }


def test_samples_show_the_most_central_word_hidden_and_what_is_guessed() -> None:
    words = ["horses", "eat", "green", "grass", "daily"]
    tokens = [*SPECIAL_TOKENS, *words, *(f"word{n}" for n in range(VOCAB - 10))]
    tokenizer = Tokenizer(models.WordPiece({token: n for n, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    ids = np.array([[2, 5, 6, 7, 8, 9, 3, *[0] * (BLOCK - 7)], [0] * BLOCK])
    (sample,) = model().samples(tokenizer, ids)
    assert sample.text == "horses eat [MASK] grass daily"
    assert sample.outcome.startswith("was: green    guesses: ")
