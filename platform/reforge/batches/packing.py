"""Documents of one split, one after the other, cut into blocks of equal length.

    doc 1 tokens [SEP] doc 2 tokens [SEP] ...   cut every T - 1 tokens
    [CLS] ........ | [CLS] ........ | [CLS] .... [PAD] [PAD]

Only the last block has padding. A document may go over several blocks, and a block may hold several documents.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reforge.batches.shards import ShardWriter
from reforge.tokenizers import SPECIAL_TOKENS
from reforge.tokenizers.sample import pieces

PAD, UNK, CLS, SEP, _ = range(len(SPECIAL_TOKENS))
_BATCH_CHARS = 1 << 19
_FLUSH_TOKENS = 1 << 18


class Piece(NamedTuple):
    """A stretch of a document, small enough to be encoded at once."""

    split: str
    text: str
    ends_document: bool


class Packer:
    """Packs the documents of one split and counts what went in: text only, no [CLS], [SEP] or [PAD]."""

    def __init__(self, writer: ShardWriter, block_tokens: int, dtype: np.dtype[Any]) -> None:
        self.documents = self.tokens = self.unknown_tokens = self.bytes = self.blocks = 0
        self._writer, self._stride, self._dtype = writer, block_tokens - 1, dtype
        self._open: list[NDArray[Any]] = []
        self._num_open = 0

    def add(self, ids: list[int], num_bytes: int, ends_document: bool) -> None:
        self.tokens += len(ids)
        self.bytes += num_bytes
        tokens = np.array([*ids, SEP] if ends_document else ids, dtype=self._dtype)
        self.unknown_tokens += int((tokens == UNK).sum())
        self.documents += ends_document
        self._open.append(tokens)
        self._num_open += len(tokens)
        if self._num_open >= _FLUSH_TOKENS:
            self._write_full_blocks()

    def finish(self) -> None:
        """Pad and write what is left."""
        self._write_full_blocks()
        rest = self._open[0]
        if len(rest):
            self._write(np.pad(rest, (0, self._stride - len(rest)), constant_values=PAD))
        self._writer.close()

    def report(self) -> dict[str, Any]:
        names = ("documents", "tokens", "unknown_tokens", "bytes", "blocks")
        return {**{name: getattr(self, name) for name in names}, "files": self._writer.files}

    def _write_full_blocks(self) -> None:
        tokens = np.concatenate([np.empty(0, self._dtype), *self._open])
        end = len(tokens) - len(tokens) % self._stride
        self._write(tokens[:end])
        self._open, self._num_open = [tokens[end:]], len(tokens) - end

    def _write(self, tokens: NDArray[Any]) -> None:
        rows = tokens.reshape(-1, self._stride)
        self._writer.write(np.insert(rows, 0, CLS, axis=1))
        self.blocks += len(rows)


def pack(documents: Iterable[tuple[str, str]], tokenizer: Tokenizer, packers: dict[str, Packer]) -> None:
    """Encode (split, text) documents on all cores, a bounded amount at a time, and hand them to their packers."""
    # What the text says about [MASK] is text: only the packing itself places special tokens.
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.encode_special_tokens = True
    for batch in _batches(chain.from_iterable(_pieces(split, text) for split, text in documents)):
        encodings = tokenizer.encode_batch_fast([piece.text for piece in batch], add_special_tokens=False)
        for piece, encoding in zip(batch, encodings, strict=True):
            packers[piece.split].add(encoding.ids, len(piece.text.encode()), piece.ends_document)
    for packer in packers.values():
        packer.finish()


def _pieces(split: str, text: str) -> Iterator[Piece]:
    done = 0
    for part in pieces(text):
        done += len(part)
        yield Piece(split, part, ends_document=done == len(text))


def _batches(stream: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    num_chars = 0
    for piece in stream:
        batch.append(piece)
        num_chars += len(piece.text)
        if num_chars >= _BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch
