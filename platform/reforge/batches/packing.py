"""Documents of one split, one after the other, cut into blocks of equal length.

    doc 1 tokens [SEP] doc 2 tokens [SEP] ...   cut every T - 1 tokens; [EOD] instead of [SEP] where that is asked for
    [CLS] ........ | [CLS] ........ | [CLS] .... [PAD] [PAD]

Only the last block has padding. A document may go over several blocks, and a block may hold several documents.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reforge.batches.shards import ShardWriter
from reforge.spec import UserError
from reforge.tokenizers import SPECIAL_TOKENS
from reforge.tokenizers.sample import pieces

PAD, UNK, CLS, SEP, _, EOD = range(len(SPECIAL_TOKENS) + 1)
Ids = NDArray[Any] | list[int]
_FLUSH_TOKENS = 1 << 18


class Packer:
    """Packs the documents of one split and counts what went in: text only, no special token.

    separator: what stands behind each document
    """

    def __init__(self, writer: ShardWriter, block_tokens: int, dtype: np.dtype[Any], separator: int = SEP) -> None:
        self.documents = self.tokens = self.unknown_tokens = self.bytes = self.blocks = 0
        self._writer, self._stride, self._dtype = writer, block_tokens - 1, dtype
        self._separator = np.array([separator], dtype=dtype)
        self._open: list[NDArray[Any]] = []
        self._num_open = 0

    def add(self, ids: Ids, num_bytes: int, ends_document: bool) -> None:
        """Take up a document, or the next stretch of one. ids: of its text; num_bytes: of its UTF-8."""
        tokens = np.asarray(ids, dtype=self._dtype)
        self.tokens += len(tokens)
        self.bytes += num_bytes
        self.unknown_tokens += int(np.count_nonzero(tokens == UNK))
        self.documents += ends_document
        self._open.append(tokens)
        if ends_document:
            self._open.append(self._separator)
        self._num_open += len(tokens) + ends_document
        if self._num_open >= _FLUSH_TOKENS:
            self._write_full_blocks()

    def finish(self) -> None:
        """Pad and write what is left; a split without a document has no block."""
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


def check_not_empty(split: str, report: Mapping[str, Any]) -> None:
    """Raise UserError where a split, by its report, has no text."""
    if not report["tokens"]:
        raise UserError(f"no document of the {split} split has a token; data.valid_fraction or more text mends it")


def stretches(text: str, by_line: bool) -> Iterator[tuple[str, bool]]:
    """A document as stretches small enough to be encoded at once, and whether each ends what may share a row.

    by_line: every line that is not empty has rows of its own
    """
    for whole in (line for line in text.split("\n") if line.strip()) if by_line else [text]:
        done = 0
        for stretch in pieces(whole):
            done += len(stretch)
            yield stretch, done == len(whole)
