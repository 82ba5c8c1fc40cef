"""Causal language modelling: which tokens are targets, the loss against the plain one, samples, memory."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from reforge.batches import Batch
from reforge.models.reformer import ReformerOptions
from reforge.objectives import Totals, output
from reforge.objectives.causal import CausalLM, CausalLMOptions
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

VOCAB, BLOCK = 40, 24
BACKBONE = ReformerOptions(d_model=16, depth=1, num_heads=2, attention="exact")


def build(**options: Any) -> CausalLM:
    torch.manual_seed(0)
    return CausalLMOptions(**options).build(BACKBONE, Vocabulary.plain(VOCAB), BLOCK).eval()


def batch(*lengths: int) -> Batch:
    """Rows of so many real tokens; the document of each ends four tokens before its padding."""
    ids = np.random.default_rng(0).integers(5, VOCAB, (len(lengths), BLOCK))
    ids[:, 0] = 2
    for row, length in zip(ids, lengths, strict=True):
        row[length - 4 : length - 3] = 3
        row[length:] = 0
    return Batch(ids, np.zeros(len(lengths), np.int64), np.arange(len(lengths)))


def run(model: CausalLM, b: Batch) -> tuple[float, float, int]:
    """Summed loss, number of right guesses and of targets."""
    inputs = model.collate(b, seed=1)
    scores = model(**inputs.tensors)
    return scores.losses["causal"].item(), scores.counts["num_correct"].item(), inputs.num_targets["causal"]


def test_targets_are_the_real_tokens_after_the_first_and_the_ends_of_documents() -> None:
    for b in (batch(BLOCK, BLOCK), batch(BLOCK, 10, 5)):
        model = build().double()
        logits_BTV = model.logits(torch.from_numpy(b.ids), torch.from_numpy(b.ids != 0)).double()
        places = [(row, t) for row, ids in enumerate(b.ids) for t in range(BLOCK - 1) if ids[t + 1] != 0]
        logits = torch.stack([logits_BTV[place] for place in places])
        targets = torch.tensor([b.ids[row, t + 1] for row, t in places])
        assert (targets == 3).sum() == len(b.ids)
        loss, num_correct, num_targets = run(model, b)
        assert num_targets == len(targets) == int((b.ids[:, 1:] != 0).sum())
        assert loss == pytest.approx(F.cross_entropy(logits, targets, reduction="sum").item(), rel=1e-9)
        assert num_correct == (logits.argmax(-1) == targets).sum()


def test_padding_changes_nothing_and_the_device_gets_no_mask_where_there_is_none() -> None:
    model = build().double()
    short = batch(10, 10)
    narrow = short._replace(ids=short.ids[:, :10])
    assert run(model, short) == pytest.approx(run(model, narrow), rel=1e-9)
    assert model.collate(narrow, seed=1).tensors.keys() == {"ids_BT"}


@pytest.mark.parametrize("b", [batch(0), batch(BLOCK)._replace(ids=np.full((1, 1), 2))], ids=["padding", "one token"])
def test_rows_without_a_target_have_no_loss_and_zero_gradients(b: Batch) -> None:
    model = build().train()
    model(**model.collate(b, seed=1).tensors).losses["causal"].backward()
    assert all(not p.grad.any() for p in model.output.parameters())


def test_nothing_is_random() -> None:
    model, b = build(), batch(BLOCK, 10)
    for seed, epoch in ((1, 0), (2, 0), (1, 5)):
        inputs = model.collate(b._replace(epochs=np.full(2, epoch)), seed)
        assert np.array_equal(inputs.tensors["ids_BT"], b.ids)


def test_metrics() -> None:
    totals = Totals(losses={"causal": 20.0}, num_targets={"causal": 10.0}, counts={"num_correct": 4.0})
    metrics = build().metrics(totals, tokens_per_byte=0.25)
    assert metrics["loss"] == 2.0
    assert metrics["perplexity"] == pytest.approx(np.exp(2.0))
    assert metrics["bits_per_byte"] == pytest.approx(2.0 / np.log(2) * 0.25)
    assert metrics["accuracy"] == 0.4


def test_tied_embeddings_share_the_matrix_and_learn_from_both_uses() -> None:
    model = build(tie_embeddings=True).train()
    assert model.output.matrix() is model.backbone.token_weight
    assert sum(p.numel() == VOCAB * 16 for p in model.parameters()) == 1
    model(**model.collate(batch(BLOCK), seed=1).tensors).losses["causal"].backward()
    untied = build().train()
    untied(**untied.collate(batch(BLOCK), seed=1).tensors).losses["causal"].backward()
    unread = [i for i in range(5, VOCAB) if i not in batch(BLOCK).ids]
    assert unread
    assert not untied.backbone.token_weight.grad[unread].any()
    assert model.backbone.token_weight.grad[unread].any()


def test_a_long_block_is_trained_without_a_tensor_of_all_its_logits(
    monkeypatch: pytest.MonkeyPatch, largest_tensor: Any
) -> None:
    tokens, vocab = 2048, 500
    monkeypatch.setattr(output, "CHUNK_VALUES", 64 * vocab)
    lsh = ReformerOptions(d_model=8, depth=1, num_heads=1, attention="lsh", bucket_size=32, num_hashes=1)
    model = CausalLMOptions().build(lsh, Vocabulary.plain(vocab), tokens)
    ids = np.random.default_rng(0).integers(5, vocab, (1, tokens))
    inputs = model.collate(Batch(ids, np.zeros(1, np.int64), np.zeros(1, np.int64)), seed=1)
    with largest_tensor() as largest:
        model(**inputs.tensors).losses["causal"].backward()
    assert largest.num_values < tokens * vocab // 4


def tokenizer() -> Tokenizer:
    words = [*SPECIAL_TOKENS, *(f"w{i}" for i in range(VOCAB - len(SPECIAL_TOKENS) - 1)), "##s"]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    made.add_special_tokens(list(SPECIAL_TOKENS))
    return made


def test_samples_go_on_with_the_first_tokens_of_a_block() -> None:
    model, blocks = build(), batch(BLOCK, BLOCK).ids
    torch.manual_seed(3)
    samples = model.samples(tokenizer(), blocks)
    torch.manual_seed(3)
    assert samples == model.samples(tokenizer(), blocks)
    assert [sample.text for sample in samples] == [tokenizer().decode(ids[1:13]) for ids in blocks]
    for sample in samples:
        assert sample.outcome.startswith("... ")
        assert 0 < len(sample.outcome.split()) - 1 <= BLOCK


def test_samples_show_one_document_and_leave_out_blocks_without_text() -> None:
    blocks = batch(BLOCK, BLOCK, BLOCK, 0).ids
    blocks[0, 6], blocks[1, 12], blocks[2, 4:] = 3, 3, 0
    samples = build().samples(tokenizer(), blocks)
    assert [sample.text for sample in samples] == [
        tokenizer().decode(blocks[0, 7:13]),
        tokenizer().decode(blocks[2, 1:4]),
    ]


def test_next_logits_are_those_after_the_last_token() -> None:
    model, ids = build(), torch.from_numpy(batch(BLOCK, BLOCK).ids)[:, :9]
    torch.testing.assert_close(model.next_logits(ids), model.logits(ids)[:, -1])
