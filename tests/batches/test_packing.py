"""Packing: every token of every document, in order, in blocks of one length; and the split that decides which."""

from pathlib import Path

import numpy as np
import pytest

from reforge.batches import Shards
from reforge.batches.packing import CLS, EOD, PAD, SEP, Packer, check_not_empty, stretches
from reforge.batches.shards import ShardWriter, token_dtype
from reforge.batches.split import split_position
from reforge.spec import UserError
from reforge.tokenizers.wordpiece import WordPiece

TEXTS = [f"number {n} is {'very ' * (n % 7)}good, {'and so is number ' * (n % 3)}{n + 1}" for n in range(40)]


def packed(folder: Path, texts: list[str], block_tokens: int) -> tuple[Shards, Packer]:
    """Each document a piece, a long one in several."""
    tokenizer = WordPiece(vocab_size=90).train(TEXTS)
    dtype = token_dtype(tokenizer.get_vocab_size())
    packer = Packer(ShardWriter(folder, "train", block_tokens, dtype, 1 << 20), block_tokens, dtype)
    for text in texts:
        for stretch, ends in stretches(text, by_line=False):
            packer.add(tokenizer.encode(stretch).ids, len(stretch.encode()), ends)
    packer.finish()
    return Shards([(folder / name, n) for name, n in packer.report()["files"]], block_tokens, dtype), packer


@pytest.mark.parametrize("block_tokens", [16, 33, 1024])
def test_blocks_hold_all_tokens_in_order(tmp_path: Path, block_tokens: int) -> None:
    shards, packer = packed(tmp_path, TEXTS, block_tokens)
    blocks = shards.blocks(np.arange(len(shards)))
    assert (blocks[:, 0] == CLS).all()
    tokens = blocks[:, 1:].ravel().tolist()
    tokenizer = WordPiece(vocab_size=90).train(TEXTS)
    expected = [token for text in TEXTS for token in [*tokenizer.encode(text).ids, SEP]]
    assert tokens[: len(expected)] == expected
    assert set(tokens[len(expected) :]) <= {PAD}
    assert len(tokens) - len(expected) < block_tokens - 1
    assert packer.documents == tokens.count(SEP) == len(TEXTS)
    assert packer.tokens == len(expected) - len(TEXTS)
    assert packer.bytes == sum(len(text.encode()) for text in TEXTS)
    assert packer.blocks == len(blocks)


def test_a_document_of_several_pieces_is_packed_as_one(tmp_path: Path) -> None:
    text = " ".join(TEXTS * 300)
    shards, packer = packed(tmp_path, [text], 64)
    assert len(text) > 1 << 19
    assert packer.documents == 1
    tokens = shards.blocks(np.arange(len(shards)))[:, 1:].ravel()
    expected = WordPiece(vocab_size=90).train(TEXTS).encode(text).ids
    assert tokens[: len(expected)].tolist() == expected
    assert (tokens == SEP).sum() == 1


def by_hand(folder: Path, documents: list[list[int]], block_tokens: int, separator: int = SEP) -> np.ndarray:
    """The blocks of documents of token ids, given as arrays."""
    writer = ShardWriter(folder, "train", block_tokens, np.dtype("<u2"), 1 << 20)
    packer = Packer(writer, block_tokens, np.dtype("<u2"), separator)
    for ids in documents:
        packer.add(np.array(ids, dtype=np.uint32), len(ids), ends_document=True)
    packer.finish()
    check_not_empty("train", packer.report())
    files = packer.report()["files"]
    shards = Shards([(folder / name, blocks) for name, blocks in files], block_tokens, np.dtype("<u2"))
    return shards.blocks(np.arange(len(shards)))


def test_the_separator_stands_behind_every_document(tmp_path: Path) -> None:
    blocks = by_hand(tmp_path, [[10, 11], [12] * 14, [13]], 16, separator=EOD)
    assert blocks[0].tolist() == [CLS, 10, 11, EOD, *[12] * 12]
    assert blocks[1].tolist() == [CLS, 12, 12, EOD, 13, EOD, *[PAD] * 10]
    assert (by_hand(tmp_path, [[10, 11], [12] * 14, [13]], 16) == np.where(blocks == EOD, SEP, blocks)).all()


def test_less_text_than_a_block_is_one_block(tmp_path: Path) -> None:
    assert by_hand(tmp_path, [[7, 8], [9]], 16).tolist() == [[CLS, 7, 8, SEP, 9, SEP, *[PAD] * 10]]


@pytest.mark.parametrize("documents", [[], [[], []]])
def test_a_split_without_a_token_is_said(tmp_path: Path, documents: list[list[int]]) -> None:
    with pytest.raises(UserError, match="no document of the train split has a token"):
        by_hand(tmp_path, documents, 16)


def test_lines_that_are_not_empty_have_rows_of_their_own() -> None:
    long = "word " * 20_000
    text = f"one line\n\n  \nanother: line\n{long}\nlast"
    whole = list(stretches(text, by_line=False))
    assert "".join(stretch for stretch, _ in whole) == text
    assert [ends for _, ends in whole] == [*[False] * (len(whole) - 1), True]
    lines = list(stretches(text, by_line=True))
    assert [stretch for stretch, _ in lines[:2]] == ["one line", "another: line"]
    assert sum(ends for _, ends in lines) == 4
    assert "".join(stretch for stretch, _ in lines[2:-1]) == long
    assert lines[-1] == ("last", True)


def test_the_split_is_a_function_of_the_text() -> None:
    positions = [split_position(f"document {n}") for n in range(5000)]
    assert positions == [split_position(f"document {n}") for n in range(5000)]
    assert 0.08 < np.mean([position < 0.1 for position in positions]) < 0.12
    assert {n for n, p in enumerate(positions) if p < 0.1} < {n for n, p in enumerate(positions) if p < 0.2}
