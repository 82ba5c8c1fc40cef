"""Documents of one split as rows of one document each, stored by padded length.

    doc 1 tokens, doc 2 tokens, ...   each cut every T - 2 tokens
    [CLS] whole document [SEP] [PAD]  |  [CLS] T - 2 tokens [SEP]  |  [CLS] the rest [SEP] [PAD]

A row never holds two documents. It lies in the bucket of the shortest length that holds it, beside the number of its
document. Lengths are 16, 24, 32 and from there four a doubling (40, 48, 56, 64, 80, ...) up to data.block_tokens: from
32 on a row is less than a quarter padding, and long ones are multiples of large powers of two. Padding of whole
corpora, all of one WordPiece vocabulary of 8,000 each, in blocks of 512:

                                       median tokens   packed   bucketed (19 lengths)   every row padded to 512
    film reviews (NSMC)                           13   0.03 %                  20.1 %                    96.1 %
    petitions                                    356   0.05 %                   3.3 %                    31.7 %
    Korean Wikipedia (title_body)                129   0.02 %                   3.4 %                    47.6 %

Steps of a quarter with 32 as the shortest length leave 43.6, 3.3 and 3.4 %, steps of x1.5 from 32 on 46.7, 7.3 and 8.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reforge.batches.packing import CLS, PAD, SEP, Ids, Packer
from reforge.batches.shards import ShardWriter

_SHORT = (16, 24)
_FRAME_TOKENS = 2  # [CLS] and [SEP]
DOCUMENT_DTYPE = np.dtype("<u4")
_COPY_BYTES = 1 << 22
_COUNTS = ("documents", "tokens", "unknown_tokens", "bytes", "blocks")


def row_lengths(block_tokens: int) -> list[int]:
    """The padded lengths of rows, shortest first; the last is `block_tokens`."""
    lengths = list(_SHORT)
    doubling = 32
    while doubling < block_tokens:
        lengths += [doubling * quarters // 4 for quarters in (4, 5, 6, 7)]
        doubling *= 2
    return [*(length for length in lengths if length < block_tokens), block_tokens]


class _Cut(NamedTuple):
    """Where rows start in a stretch of tokens, how much text each holds and of which document; all [R]."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    documents: NDArray[np.int64]


class BucketedPacker(Packer):
    """Packs the documents of one split into rows of one document each; counts as `Packer` does, `blocks` are rows.

    one_length: pad every row to `block_tokens`
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        block_tokens: int,
        dtype: np.dtype[Any],
        max_bytes: int,
        one_length: bool = False,
    ) -> None:
        lengths = [block_tokens] if one_length else row_lengths(block_tokens)
        self._buckets = [_BucketWriter(folder, split, length, dtype, max_bytes) for length in lengths]
        super().__init__(self._buckets[-1].rows, block_tokens, dtype)
        self._text_tokens = block_tokens - _FRAME_TOKENS
        self._ends: list[int] = []  # of the documents among the open tokens, each behind its [SEP]
        self._num_ended = 0

    def add(self, ids: Ids, num_bytes: int, ends_document: bool) -> None:
        if ends_document:
            self._ends.append(self._num_open + len(ids) + 1)
        super().add(ids, num_bytes, ends_document)

    def finish(self) -> None:
        """Write what is left; a split without a token has no row."""
        self._write_full_blocks()
        assert not self._num_open
        for bucket in self._buckets:
            bucket.close()

    def report(self) -> dict[str, Any]:
        report = super().report()
        del report["files"]
        return {**report, "buckets": [bucket.report() for bucket in self._buckets if bucket.num_rows]}

    def _write_full_blocks(self) -> None:
        """Write every document that has ended, and the full rows of the one that has not."""
        tokens = np.concatenate([np.empty(0, self._dtype), *self._open])
        ends = np.array(self._ends, dtype=np.int64)
        starts = np.append(0, ends)
        unfinished = (len(tokens) - starts[-1]) // self._text_tokens * self._text_tokens
        cut = self._cut(starts, np.append(ends - starts[:-1] - 1, unfinished))
        numbers = np.searchsorted([bucket.length for bucket in self._buckets], cut.lengths + _FRAME_TOKENS)
        for number in np.unique(numbers):
            self._buckets[number].write(tokens, _Cut(*(part[numbers == number] for part in cut)))
        self.blocks += len(cut.starts)
        self._num_ended += len(ends)
        rest = tokens[starts[-1] + unfinished :]
        self._open, self._num_open, self._ends = [rest], len(rest), []

    def _cut(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> _Cut:
        """Rows of the stretches that start at `starts`, of `lengths` tokens; one without a token has none."""
        num_rows = -(-lengths // self._text_tokens)
        owners = np.repeat(np.arange(len(starts)), num_rows)
        numbers = np.arange(len(owners)) - np.repeat(np.cumsum(num_rows) - num_rows, num_rows)
        before = numbers * self._text_tokens
        return _Cut(
            starts=starts[owners] + before,
            lengths=np.minimum(lengths[owners] - before, self._text_tokens),
            documents=self._num_ended + owners,
        )


class _BucketWriter:
    """The files of one length: `<split>-<length>-00000.bin`, ..., and `<split>-<length>-documents-00000.bin`, ..."""

    def __init__(self, folder: Path, split: str, length: int, dtype: np.dtype[Any], max_bytes: int) -> None:
        self.length, self.num_rows, self.num_text = length, 0, 0
        self.rows = ShardWriter(folder, f"{split}-{length}", length, dtype, max_bytes)
        self.documents = ShardWriter(folder, f"{split}-{length}-documents", 1, DOCUMENT_DTYPE, max_bytes)

    def write(self, tokens: NDArray[Any], cut: _Cut) -> None:
        """Append the rows of `cut`; in the order of the documents, so document numbers never fall."""
        assert cut.documents[-1] < np.iinfo(DOCUMENT_DTYPE).max
        rows = np.full((len(cut.starts), self.length), PAD, dtype=tokens.dtype)
        rows[:, 0] = CLS
        rows[np.arange(len(rows)), cut.lengths + 1] = SEP
        places = np.arange(self.length - _FRAME_TOKENS)
        filled = places < cut.lengths[:, None]
        rows[:, 1:-1][filled] = tokens[(cut.starts[:, None] + places)[filled]]
        self.rows.write(rows)
        self.documents.write(cut.documents[:, None])
        self.num_rows += len(rows)
        self.num_text += int(cut.lengths.sum())

    def copy(self, folder: Path, bucket: Mapping[str, Any], first_document: int) -> None:
        """Append the rows of a bucket as it is reported, whose files lie in `folder`, their documents numbered anew."""
        for rows in _read(folder, bucket["files"], self.length, self.rows.dtype):
            self.rows.write(rows)
        for numbers in _read(folder, bucket["document_files"], 1, DOCUMENT_DTYPE):
            assert int(numbers[-1, 0]) + first_document < np.iinfo(DOCUMENT_DTYPE).max
            self.documents.write(numbers + np.uint32(first_document))
        self.num_rows += bucket["rows"]
        self.num_text += bucket["tokens"] - _FRAME_TOKENS * bucket["rows"]

    def close(self) -> None:
        self.rows.close()
        self.documents.close()

    def report(self) -> dict[str, Any]:
        tokens = self.num_text + _FRAME_TOKENS * self.num_rows
        return {
            "row_tokens": self.length,
            "rows": self.num_rows,
            "tokens": tokens,
            "padding_share": 1 - tokens / (self.num_rows * self.length),
            "files": self.rows.files,
            "document_files": self.documents.files,
        }


def join_buckets(
    folder: Path, split: str, parts: Sequence[tuple[Path, Mapping[str, Any]]], dtype: np.dtype[Any], max_bytes: int
) -> dict[str, Any]:
    """Join what several packers wrote, in their order, into files as one packer would have; its report.

    parts: folder and report of each packer; one may have no rows of some length, or none at all
    """
    lengths = sorted({bucket["row_tokens"] for _, report in parts for bucket in report["buckets"]})
    buckets = {length: _BucketWriter(folder, split, length, dtype, max_bytes) for length in lengths}
    counts = dict.fromkeys(_COUNTS, 0)
    for source, report in parts:
        for bucket in report["buckets"]:
            buckets[bucket["row_tokens"]].copy(source, bucket, counts["documents"])
        counts = {name: counts[name] + report[name] for name in _COUNTS}
    for writer in buckets.values():
        writer.close()
    return {**counts, "buckets": [writer.report() for writer in buckets.values()]}


def _read(
    folder: Path, files: Sequence[tuple[str, int]], row_tokens: int, dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """The rows of files in order, some megabytes at a time."""
    row_bytes = row_tokens * dtype.itemsize
    for name, _ in files:
        with (folder / name).open("rb") as file:
            while part := file.read(max(1, _COPY_BYTES // row_bytes) * row_bytes):
                yield np.frombuffer(part, dtype).reshape(-1, row_tokens)
