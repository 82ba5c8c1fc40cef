"""Sentence pairs: of the right documents, cut at sentences, half and half, and told apart by content alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch

import reforge
from reforge.batches import Batch, Data, prepare
from reforge.corpora.text import Text
from reforge.models import BACKBONES
from reforge.objectives import Totals
from reforge.objectives.masking import PAD_ID
from reforge.objectives.mlm_nsp import MaskedLMWithNextSentence, MaskedLMWithNextSentenceOptions
from reforge.objectives.sentence_pairs import make_pairs, split_places
from reforge.runs import PretrainJob, pretrain
from reforge.tokenizers import Vocabulary
from reforge.tokenizers.wordpiece import WordPiece

END = 9  # the token that ends a sentence
WORDS_A_DOCUMENT = 20
PARTNERS_FROM = 300  # their documents' numbers
VOCAB = 10 + 2 * PARTNERS_FROM * WORDS_A_DOCUMENT


def vocabulary(*continuing: int) -> Vocabulary:
    return Vocabulary(VOCAB, np.isin(np.arange(VOCAB), continuing), np.arange(VOCAB) == END)


def document(number: int, num_tokens: int) -> np.ndarray:
    """Text in which only END is not the document's own; a sentence is 3 to 8 tokens long, the last one ends."""
    random = np.random.default_rng(number)
    text = 10 + number * WORDS_A_DOCUMENT + random.integers(0, WORDS_A_DOCUMENT, num_tokens)
    text[np.cumsum(random.integers(3, 9, num_tokens)).clip(max=num_tokens) - 1] = END
    return text


def document_of(ids: np.ndarray) -> set[int]:
    return set(((ids[ids != END] - 10) // WORDS_A_DOCUMENT).tolist())


def rows(texts: list[np.ndarray], width: int) -> np.ndarray:
    ids = np.zeros((len(texts), width), dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text) + 2] = [2, *text, 3]
    return ids


def batch(num_rows: int = 100, width: int = 64, partner_width: int = 80, epoch: int = 0) -> Batch:
    """Rows of documents 0, 1, ... of many lengths, each with one of another document as its partner."""
    lengths = np.random.default_rng(1).integers(2, width - 1, num_rows)
    lengths[:5] = width - 2
    ids = rows([document(n, length) for n, length in enumerate(lengths)], width)
    others = rows([document(n + PARTNERS_FROM, partner_width - 2 - n % 40) for n in range(num_rows)], partner_width)
    return Batch(ids, np.full(num_rows, epoch), np.arange(num_rows), others)


def model(backbone: str = "reformer", **options: float) -> MaskedLMWithNextSentence:
    torch.manual_seed(0)
    small = BACKBONES[backbone](d_model=16, depth=1, num_heads=2, attention="exact")
    return MaskedLMWithNextSentenceOptions(**options).build(small, vocabulary(), 64)


class Pair(NamedTuple):
    row: int
    first: np.ndarray
    second: np.ndarray
    not_next: bool


def read_pairs(b: Batch, objective: MaskedLMWithNextSentence) -> list[Pair]:
    """The pairs that collate's tensors say, what was masked put back."""
    tensors = {name: tensor.numpy().copy() for name, tensor in objective.collate(b, seed=3).tensors.items()}
    tensors["ids_BT"].reshape(-1)[tensors["places_N"]] = tensors["targets_N"]
    found = []
    for row, not_next in zip(tensors["rows_P"], tensors["classes_P"], strict=True):
        ids = tensors["ids_BT"][row]
        length = int((ids != PAD_ID).sum())
        middle, end = np.flatnonzero(ids == 3)
        assert ids[0] == 2
        assert end == length - 1
        assert np.flatnonzero(tensors["segments_BT"][row]).tolist() == list(range(middle + 1, end + 1))
        assert tensors["mask_BT"][row].sum() == length
        found.append(Pair(int(row), ids[1:middle], ids[middle + 1 : end], bool(not_next)))
    return found


def text_of(row: np.ndarray) -> np.ndarray:
    return row[1 : int((row != PAD_ID).sum()) - 1]


def test_pairs_are_of_the_documents_that_their_class_says() -> None:
    b = batch()
    pairs = read_pairs(b, model())
    assert len(pairs) == 100
    for pair in pairs:
        own = text_of(b.ids[pair.row])
        assert np.array_equal(pair.first, own[: len(pair.first)])
        assert len(pair.second) > 0
        if pair.not_next:
            other = text_of(b.partners[pair.row])  # type: ignore[index]
            starts = [at for at in range(1, len(other)) if np.array_equal(other[at:][: len(pair.second)], pair.second)]
            assert END in other[np.array(starts) - 1]
            assert document_of(pair.second) <= {pair.row + PARTNERS_FROM}
        else:
            following = own[len(pair.first) :]
            assert np.array_equal(pair.second, following[: len(pair.second)])
        sentence_ends = np.flatnonzero(own[:-1] == END)
        assert pair.first[-1] == END or len(sentence_ends) == 0


def test_a_pair_is_never_longer_than_its_row() -> None:
    b = batch(300, width=24, partner_width=80)
    pairs = make_pairs(b, 3, vocabulary(), 0.5)
    assert pairs.ids.shape == pairs.segments.shape == (300, 24)
    longest = 3 + max(len(pair.first) + len(pair.second) for pair in read_pairs(b, model()))
    assert longest == 24


@pytest.mark.parametrize("next_prob", [0.5, 0.8])
def test_the_classes_come_as_often_as_asked_for(next_prob: float) -> None:
    classes = [
        make_pairs(batch(epoch=epoch), 1, vocabulary(), next_prob).not_next.mean() for epoch in range(20)
    ]  # fmt: skip
    assert abs(np.mean(classes) - (1 - next_prob)) < 0.03


def test_lengths_do_not_tell_the_classes_apart() -> None:
    b = batch()
    next_ones, not_next_ones = (make_pairs(b, 3, vocabulary(), prob) for prob in (1 - 1e-9, 1e-9))
    assert not next_ones.not_next.any()
    assert not_next_ones.not_next.all()
    assert np.array_equal(next_ones.segments, not_next_ones.segments)
    assert np.array_equal(next_ones.ids != PAD_ID, not_next_ones.ids != PAD_ID)


def test_little_is_cut_off_where_partners_are_as_long() -> None:
    lost = []
    for epoch in range(10):
        b = batch(epoch=epoch, partner_width=120)
        lost += [len(text_of(b.ids[pair.row])) - len(pair.first) - len(pair.second) for pair in read_pairs(b, model())]
    assert 0 <= min(lost) <= max(lost) <= 8  # less than a sentence, or the [SEP] that comes in
    assert np.mean(lost) < 2


def test_new_pairs_in_every_epoch_and_the_same_ones_whatever_the_batch() -> None:
    b = batch()
    whole = make_pairs(b, 3, vocabulary(), 0.5)
    places = np.array([70, 3, 99])
    some = make_pairs(Batch(*(values[places] for values in b[:4] if values is not None)), 3, vocabulary(), 0.5)
    for all_rows, some_rows in zip(whole, some, strict=True):
        assert np.array_equal(all_rows[places], some_rows)
    for other in (make_pairs(batch(epoch=1), 3, vocabulary(), 0.5), make_pairs(b, 4, vocabulary(), 0.5)):
        assert 0.3 < (other.not_next != whole.not_next).mean() < 0.7
        assert (other.ids != whole.ids).any(axis=1).mean() > 0.8


def test_padding_changes_a_pair_only_by_the_token_that_a_full_row_has_no_room_for() -> None:
    b = batch()
    wide = b._replace(ids=np.pad(b.ids, ((0, 0), (0, 8))))
    pairs = (read_pairs(each, model()) for each in (b, wide))
    for narrow_pair, wide_pair in zip(*pairs, strict=True):
        assert np.array_equal(narrow_pair.first, wide_pair.first)
        kept = len(narrow_pair.second)
        assert np.array_equal(narrow_pair.second, wide_pair.second[:kept])
        assert len(wide_pair.second) - kept <= (1 if len(text_of(b.ids[narrow_pair.row])) == 62 else 0)


def test_a_row_is_split_at_the_sentence_end_nearest_the_wanted_place() -> None:
    #            [CLS]  1   2    3   4   5    6   7 [SEP]
    ids = np.array([[2, 20, 21, END, 22, 23, END, 24, 3, 0]])
    for wanted, expected in ((1, 3), (4, 3), (5, 6), (7, 6), (-3, 3), (50, 6)):
        assert split_places(ids, np.array([wanted]), np.array([6]), vocabulary()) == expected
    assert split_places(ids, np.array([6]), np.array([5]), vocabulary()) == 3


def test_without_a_sentence_end_a_row_is_split_between_words() -> None:
    ids = np.array([[2, 20, 21, 22, 23, END, 3, 0]])  # only the text's last token ends a sentence
    for continuing, expected in (((), 2), ((22,), 1), ((21, 22, 23), 4), ((21, 22, 23, END), 0)):
        assert split_places(ids, np.array([2]), np.array([4]), vocabulary(*continuing)) == expected


def test_rows_too_short_are_masked_but_have_no_class() -> None:
    b = Batch(rows([document(0, 1), document(1, 20)], 32), np.zeros(2, int), np.arange(2), batch().partners[:2])  # type: ignore[index]
    inputs = model().collate(b, seed=1)
    assert inputs.tensors["rows_P"].tolist() == [1]
    assert inputs.num_targets == {"mlm": 1 + 3, "nsp": 1}
    assert not inputs.tensors["segments_BT"][0].any()
    hidden = inputs.tensors["ids_BT"][0].clone()
    hidden[1] = b.ids[0, 1]
    assert hidden.tolist() == b.ids[0].tolist()


def test_a_row_whose_partner_has_no_second_part_is_no_pair_so_that_half_of_all_pairs_follow() -> None:
    followed = []
    for epoch in range(20):
        b = batch(epoch=epoch)
        partners = rows([document(PARTNERS_FROM + n, n % 2 or 30) for n in range(100)], 48)
        pairs = make_pairs(b._replace(partners=partners), 3, vocabulary(), 0.5)
        assert pairs.is_pair.tolist() == [False, True][::-1] * 50
        assert np.array_equal(pairs.ids[~pairs.is_pair], b.ids[~pairs.is_pair])
        assert not pairs.not_next[~pairs.is_pair].any()
        followed += (~pairs.not_next[pairs.is_pair]).tolist()
    assert abs(np.mean(followed) - 0.5) < 0.05


@pytest.mark.parametrize("pack", ["pairs", "lines"])
@pytest.mark.parametrize("batches", ["packed", "bucketed"])
def test_pairs_read_from_a_corpus_are_of_the_documents_that_their_class_says(
    tmp_path: Path, batches: Literal["packed", "bucketed"], pack: Literal["pairs", "lines"]
) -> None:
    """The words of a document, or of a line, are one syllable of its own: it tells where a part comes from."""
    syllables = [[chr(0xAC00 + 28 * (n if pack == "pairs" else 3 * n + line)) for line in range(3)] for n in range(30)]
    texts = ["\n".join(f"{each} {each} . " * (3 + number % 3) for each in of) for number, of in enumerate(syllables)]
    (tmp_path / "text.txt").write_text("\n\n".join(texts), encoding="utf-8")
    data = Data(
        corpus=Text(path=tmp_path / "text.txt", documents_by="blank_line"),
        pack=pack, batches=batches, block_tokens=64, valid_fraction=0.2,
    )  # fmt: skip
    prepared = prepare(data, WordPiece(vocab_size=300), tmp_path, lambda line: None)
    known, ends = Vocabulary.of(prepared.tokenizer), prepared.tokenizer.token_to_id(".")
    classes = []
    for step in range(100):
        b = prepared.train.read(prepared.train.rows_at(1, step, 1024), 1, partners=True)
        pairs = make_pairs(b, 1, known, 0.5)
        for ids, not_next in zip(pairs.ids[pairs.is_pair], pairs.not_next[pairs.is_pair], strict=True):
            middle, end = np.flatnonzero(ids == 3)
            first, second = (set(part.tolist()) - {ends} for part in (ids[1:middle], ids[middle + 1 : end]))
            assert len(first) == len(second) == 1
            assert (first != second) == not_next
            classes.append(not_next)
    assert abs(np.mean(classes) - 0.5) < 0.05


def test_without_partners_there_is_nothing_to_tell_apart() -> None:
    b = batch()._replace(partners=None)
    inputs = model().collate(b, seed=1)
    assert inputs.num_targets["nsp"] == 0 < inputs.num_targets["mlm"]
    assert not inputs.tensors["segments_BT"].any()
    ids = inputs.tensors["ids_BT"].clone().flatten()
    ids[inputs.tensors["places_N"]] = inputs.tensors["targets_N"]
    assert np.array_equal(ids.view(b.ids.shape).numpy(), b.ids)


def test_metrics_are_those_of_the_counts() -> None:
    objective = model(nsp_weight=0.5)
    totals = Totals({"mlm": 30.0, "nsp": 4.0}, {"mlm": 10.0, "nsp": 8.0}, {"mlm_correct": 2.0, "nsp_correct": 6.0})
    metrics = objective.metrics(totals, 0.5)
    assert metrics["loss"] == 3.0 + 0.5 * 0.5
    assert (metrics["mlm_loss"], metrics["nsp_loss"]) == (3.0, 0.5)
    assert (metrics["masked_accuracy"], metrics["nsp_accuracy"]) == (0.2, 0.75)
    assert metrics["perplexity"] == pytest.approx(np.exp(3.0))
    assert metrics["bits_per_byte"] == pytest.approx(3.0 / np.log(2) * 0.5)


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize("backbone", BACKBONES)
def test_both_tasks_can_be_learnt(backbone: str) -> None:
    """The classes follow from the tokens: a model that sees both parts learns a handful of pairs by heart."""
    objective = model(backbone)
    inputs = objective.collate(batch(24, width=32), seed=1)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    for _ in range(150):
        losses = objective(**inputs.tensors).losses
        (losses["mlm"] / inputs.num_targets["mlm"] + losses["nsp"] / inputs.num_targets["nsp"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    counts = objective.eval()(**inputs.tensors).counts
    assert counts["nsp_correct"] / inputs.num_targets["nsp"] > 0.95
    assert counts["mlm_correct"] / inputs.num_targets["mlm"] > 0.5


@pytest.mark.slow  # takes seconds
def test_a_run_on_rows_of_documents_ends_in_a_model_that_loads(tiny_job: Callable[..., PretrainJob]) -> None:
    job = tiny_job("name=nsp", "objective={kind: mlm_nsp}", "data.batches=bucketed", "train.max_steps=3")
    folder = prepare(job.data, job.tokenizer, job.run.prepared_root, announce=lambda line: None).folder
    result = pretrain(job, job.folder, folder, torch.device("cpu"))
    assert tuple(result.metrics) == MaskedLMWithNextSentence.metric_names
    assert 0.3 < result.metrics["nsp_loss"] < 1.5  # there were pairs: without any it would be 0
    assert all("[MASK]" in sample.text for sample in result.samples)
    loaded, tokenizer = reforge.load(job.folder)
    ids = torch.tensor([tokenizer.encode("An [MASK] statement").ids])
    assert loaded.logits(ids).shape == (1, ids.shape[1], tokenizer.get_vocab_size())
