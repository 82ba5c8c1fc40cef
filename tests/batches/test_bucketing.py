"""Rows of one document each: every token of every document, in order, in the shortest length that holds it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reforge.batches.bucketed import Bucket, BucketedSamples
from reforge.batches.bucketing import DOCUMENT_DTYPE, BucketedPacker, join_buckets, row_lengths
from reforge.batches.packing import CLS, PAD, SEP, check_not_empty
from reforge.batches.shards import Shards
from reforge.spec import UserError

FIRST_ID = 5
Report = dict[str, Any]


def bucketed(
    folder: Path, lengths: list[int], block_tokens: int, piece: int = 10**6
) -> tuple[BucketedSamples, BucketedPacker]:
    """Documents of `lengths`, each of ids of its own; they come in pieces of `piece` tokens at most."""
    dtype = np.dtype("<u4")
    packer = BucketedPacker(folder, "train", block_tokens, dtype, max_bytes=4096)
    for ids in documents(lengths):
        for start in range(0, max(1, len(ids)), piece):
            packer.add(ids[start : start + piece], num_bytes=piece, ends_document=start + piece >= len(ids))
    packer.finish()
    return opened(folder, packer, dtype), packer


def documents(lengths: list[int]) -> list[list[int]]:
    ends = FIRST_ID + np.cumsum(lengths)
    return [list(range(end - length, end)) for end, length in zip(ends.tolist(), lengths, strict=True)]


def opened(folder: Path, packer: BucketedPacker, dtype: np.dtype[np.unsignedinteger]) -> BucketedSamples:
    def shards(files: list[tuple[str, int]], length: int, dtype: np.dtype[np.unsignedinteger]) -> Shards:
        return Shards([(folder / name, rows) for name, rows in files], length, dtype)

    return BucketedSamples(
        "train",
        [
            Bucket(shards(b["files"], b["row_tokens"], dtype), shards(b["document_files"], 1, DOCUMENT_DTYPE))
            for b in packer.report()["buckets"]
        ],
    )


LENGTHS = [1, 30, 62, 63, 0, 14, 15, 500, 124, 125, 186, 61, 2, 62, 7] * 3


@pytest.mark.parametrize("piece", [10**6, 40, 1])
def test_rows_hold_all_tokens_and_never_two_documents(tmp_path: Path, piece: int) -> None:
    samples, packer = bucketed(tmp_path, LENGTHS, 64, piece)
    texts: dict[int, list[list[int]]] = {}
    for index in range(len(samples)):
        [row] = samples.blocks(np.array([index]))
        text = row[1 : row.tolist().index(SEP)].tolist()
        assert row.tolist() == [CLS, *text, SEP] + [PAD] * (len(row) - len(text) - 2)
        assert len(row) == min(length for length in row_lengths(64) if length >= len(text) + 2)
        [document] = [number for number, ids in enumerate(documents(LENGTHS)) if text[0] in ids]
        texts.setdefault(document, []).append(text)
    for number, ids in enumerate(documents(LENGTHS)):
        rows = sorted(texts.get(number, []))
        assert [token for text in rows for token in text] == ids
        assert all(len(text) == 62 for text in rows[:-1])
    assert (packer.documents, packer.tokens, packer.blocks) == (len(LENGTHS), sum(LENGTHS), len(samples))


def test_pieces_and_flushes_change_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for name, flush, piece in (("whole", 1 << 18, 10**6), ("flushed", 1, 50), ("by token", 100, 1)):
        monkeypatch.setattr("reforge.batches.packing._FLUSH_TOKENS", flush)
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        bucketed(folders[-1], LENGTHS, 64, piece)
    contents = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1] == contents[2]
    assert max(len(content) for content in contents[0].values()) <= 4096


def test_the_documents_of_rows_are_stored(tmp_path: Path) -> None:
    samples, _ = bucketed(tmp_path, LENGTHS, 64)
    owner = {token: number for number, ids in enumerate(documents(LENGTHS)) for token in ids}
    for bucket in samples.buckets:
        rows, numbers = (shards.blocks(np.arange(len(bucket.rows))) for shards in bucket)
        assert [owner[token] for token in rows[:, 1]] == numbers[:, 0].tolist()


def test_the_report_counts_rows_tokens_and_padding(tmp_path: Path) -> None:
    samples, packer = bucketed(tmp_path, LENGTHS, 64)
    report = packer.report()
    assert "files" not in report
    for bucket, opened_bucket in zip(report["buckets"], samples.buckets, strict=True):
        ids = opened_bucket.rows.blocks(np.arange(len(opened_bucket.rows)))
        assert bucket["row_tokens"] == ids.shape[1]
        assert bucket["rows"] == len(ids)
        assert bucket["tokens"] == (ids != PAD).sum()
        assert bucket["padding_share"] == pytest.approx((ids == PAD).mean())
    assert sum(bucket["rows"] for bucket in report["buckets"]) == report["blocks"]


@pytest.mark.parametrize("block_tokens", [16, 20, 24, 32, 48, 100, 512, 1000, 2**20])
def test_lengths_rise_to_the_block_and_leave_little_padding(block_tokens: int) -> None:
    lengths = row_lengths(block_tokens)
    assert lengths == sorted(set(lengths))
    assert lengths[-1] == block_tokens
    assert all(length % 8 == 0 for length in lengths[:-1])
    for shorter, longer in pairwise(lengths):
        assert longer <= shorter * 1.25 or shorter < 32


def test_short_documents_are_mostly_text(tmp_path: Path) -> None:
    lengths = np.random.default_rng(1).geometric(1 / 60, 2000).tolist()
    _, packer = bucketed(tmp_path, lengths, 512)
    buckets = packer.report()["buckets"]
    places = sum(bucket["rows"] * bucket["row_tokens"] for bucket in buckets)
    assert sum(bucket["tokens"] for bucket in buckets) / places > 0.88
    assert (sum(lengths) + 2 * len(lengths)) / (512 * len(lengths)) < 0.13  # as rows of one length


def test_rows_of_one_length(tmp_path: Path) -> None:
    lengths, (many, one) = [3, 14, 0, 40, 15], (tmp_path / "many", tmp_path / "one")
    for folder in (many, one):
        folder.mkdir()
    whole, _ = bucketed(many, lengths, 16)
    packer = BucketedPacker(one, "train", 16, np.dtype("<u4"), 4096, one_length=True)
    for ids in documents(lengths):
        packer.add(np.array(ids, dtype=np.uint32), len(ids), ends_document=True)
    packer.finish()
    [bucket] = packer.report()["buckets"]
    assert (bucket["row_tokens"], bucket["rows"]) == (16, len(whole))
    assert bucket["padding_share"] == pytest.approx((whole.blocks(np.arange(len(whole))) == PAD).mean())
    assert (one / "train-16-00000.bin").read_bytes() == (many / "train-16-00000.bin").read_bytes()


def parts_of(folder: Path, documents_of_parts: list[list[list[int]]], block_tokens: int) -> list[tuple[Path, Report]]:
    """Each part packed by itself into a folder of its own."""
    parts = []
    for number, part in enumerate(documents_of_parts):
        (folder / f"part-{number}").mkdir(parents=True)
        packer = BucketedPacker(folder / f"part-{number}", "train", block_tokens, np.dtype("<u4"), 999)
        for ids in part:
            packer.add(ids, 3 * len(ids), ends_document=True)
        packer.finish()
        parts.append((folder / f"part-{number}", packer.report()))
    return parts


@pytest.mark.parametrize("cuts", [[], [1], [7, 7, 20], [2, 3, 4, 44]])
def test_parts_joined_are_what_one_packer_writes(
    tmp_path: Path, cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reforge.batches.bucketing._COPY_BYTES", 300)
    whole, joined = tmp_path / "whole", tmp_path / "joined"
    for folder in (whole, joined):
        folder.mkdir()
    _, packer = bucketed(whole, LENGTHS, 64)
    edges = [0, *cuts, len(LENGTHS)]
    parts = parts_of(tmp_path, [documents(LENGTHS)[start:stop] for start, stop in pairwise(edges)], 64)
    report = join_buckets(joined, "train", parts, np.dtype("<u4"), 4096)
    assert {file.name: file.read_bytes() for file in joined.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }
    assert report["buckets"] == packer.report()["buckets"]
    assert {name: report[name] for name in ("documents", "tokens", "unknown_tokens", "blocks")} == {
        name: getattr(packer, name) for name in ("documents", "tokens", "unknown_tokens", "blocks")
    }
    assert report["bytes"] == 3 * sum(LENGTHS)


def test_a_part_may_have_no_row_of_some_length_or_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "joined").mkdir()
    parts = parts_of(tmp_path, [[], [[]], [[7] * 10, []], [[8] * 60], [[9] * 10]], 64)
    report = join_buckets(tmp_path / "joined", "train", parts, np.dtype("<u4"), 4096)
    assert [(bucket["row_tokens"], bucket["rows"]) for bucket in report["buckets"]] == [(16, 2), (64, 1)]
    numbers = np.fromfile(tmp_path / "joined" / "train-16-documents-00000.bin", DOCUMENT_DTYPE)
    assert numbers.tolist() == [1, 4]  # the second part's document without a token counts
    check_not_empty("train", report)
    nothing = join_buckets(tmp_path / "joined", "valid", parts[:2], np.dtype("<u4"), 4096)
    with pytest.raises(UserError, match="no document of the valid split has a token"):
        check_not_empty("valid", nothing)
