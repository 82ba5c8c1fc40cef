"""Where [EOD] stands behind documents it is a special token to every objective, and what a causal one ends with."""

from itertools import product

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from reforge.batches import Batch
from reforge.models import BACKBONES
from reforge.objectives import OBJECTIVES, Objective
from reforge.objectives.causal import CausalLMOptions
from reforge.objectives.masking import IGNORED, MaskingOptions
from reforge.runs.generate import GenerationOptions, generate, generate_texts
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

VOCAB, BLOCK, EOD = 12, 32, 5
PLAIN = np.zeros(VOCAB, dtype=bool)
VOCABULARY = Vocabulary(VOCAB, PLAIN, PLAIN, num_special=6)
BACKBONE = BACKBONES["transformer"](d_model=16, depth=1, num_heads=2)


def batch(num_rows: int = 200) -> Batch:
    """Blocks of documents of three tokens each, [EOD] behind every one."""
    ids = np.random.default_rng(0).integers(6, VOCAB, (num_rows, BLOCK))
    ids[:, 4::4] = EOD
    ids[:, 0] = 2
    return Batch(ids, np.zeros(num_rows, dtype=np.int64), np.arange(num_rows))


@pytest.fixture
def tokenizer() -> Tokenizer:
    special = [*SPECIAL_TOKENS, "[EOD]"]
    words = [*special, *(f"word{n}" for n in range(VOCAB - 6))]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    made.add_special_tokens(special)
    return made


def build(kind: str) -> Objective:
    torch.manual_seed(0)
    return OBJECTIVES[kind]().build(BACKBONE, VOCABULARY, BLOCK).eval()


def test_the_vocabulary_says_what_ends_a_document(tokenizer: Tokenizer) -> None:
    assert (Vocabulary.of(tokenizer).num_special, Vocabulary.of(tokenizer).document_end) == (6, EOD)
    assert (Vocabulary.plain(9).num_special, Vocabulary.plain(9).document_end) == (5, 3)
    assert VOCABULARY.never_text == [0, 1, 2, 3, 4]
    assert Vocabulary.plain(9).never_text == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("kind", "whole_words"),
    [*product([kind for kind, options in OBJECTIVES.items() if issubclass(options, MaskingOptions)], [False, True])],
)
def test_the_end_of_a_document_is_never_hidden_and_never_put_in(kind: str, whole_words: bool) -> None:
    options = OBJECTIVES[kind](mask_prob=0.9, mask_token_prob=0.3, random_token_prob=0.7, whole_words=whole_words)
    assert isinstance(options, MaskingOptions)
    masked = options.mask(batch(), 1, VOCABULARY)
    end = batch().ids == EOD
    assert (masked.targets_BT[end] == IGNORED).all()
    assert (masked.ids_BT == EOD).sum() == end.sum()
    assert set(np.unique(masked.ids_BT)) == {2, 4, *range(EOD, VOCAB)}


def test_a_discriminator_is_not_asked_about_the_end_of_a_document() -> None:
    inputs = build("electra").collate(batch(), seed=1)
    assert inputs.num_targets["discriminator"] == (batch().ids > EOD).sum()


def test_a_causal_model_learns_the_end_of_a_document_and_stops_there(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = CausalLMOptions().build(BACKBONE, VOCABULARY, BLOCK)
    assert model.collate(batch(), seed=1).num_targets["causal"] == batch().ids[:, 1:].size
    with torch.no_grad():
        model.eval().output.bias[:6] += 30.0
    options = GenerationOptions(greedy=True)
    assert [part.token_id for part in generate(model, tokenizer, "word1", options)] == [EOD]
    assert generate_texts(model, tokenizer, "word1", GenerationOptions(stop=(), max_tokens=1)) == ["\n\n"]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_sample_is_of_one_document(kind: str, tokenizer: Tokenizer) -> None:
    blocks = batch(4).ids
    blocks[:, [8, 20]] = blocks[:, [9, 21]]
    torch.manual_seed(0)
    for sample in build(kind).samples(tokenizer, blocks):
        assert 0 < len(sample.text.split()) <= 7
        assert "[EOD]" not in sample.text
