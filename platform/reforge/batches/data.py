"""The `data:` section of a job spec."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from reforge.corpora import AnyCorpus
from reforge.corpora.cleaning import Cleaning
from reforge.spec import Part, Problem
from reforge.tokenizers import EOD, SPECIAL_TOKENS

Pack = Literal["documents", "within", "pairs", "lines"]


class Data(Part):
    """Which text, in blocks of how many tokens, and how much of it is held out.

    clean: what is mended in each document and which are dropped
    pack: what a block holds. `documents`: stretches of all documents, one after the other, so that there is no padding;
        `within`: a document, or a stretch of it; `pairs`: the same, cut in two for an objective that asks whether the
        second part follows, as it is read; `lines`: a line of a document that is not empty; `auto`: documents where
        `batches` is packed, within where it is bucketed
    batches: `packed` are blocks of one length; `bucketed` are rows of many lengths, for texts shorter than a block, and
        each batch is of rows of similar length
    separator: what stands behind each document of a block of several: sep is [SEP], eod is [EOD], a token of its own
    curriculum: `length` takes the batches of the first epoch from the shortest rows to the longest
    block_tokens: length of a block, or of the longest row, its special tokens included
    valid_fraction: the share of documents that validation gets, by a hash of each document's text
    shard_mib: size that no shard file exceeds, unless a single block does
    """

    corpus: AnyCorpus
    clean: Cleaning = Cleaning()
    pack: Pack | Literal["auto"] = "auto"
    batches: Literal["packed", "bucketed"] = "packed"
    separator: Literal["sep", "eod"] = "sep"
    curriculum: Literal["none", "length"] = "none"
    block_tokens: int = Field(default=512, ge=16, le=2**20)
    valid_fraction: float = Field(default=0.01, gt=0, le=0.5)
    shard_mib: int = Field(default=256, ge=1)

    @property
    def packing(self) -> Pack:
        """`pack` with auto decided."""
        if self.pack != "auto":
            return self.pack
        return "documents" if self.batches == "packed" else "within"

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens of the vocabulary, in the order of their ids."""
        return (*SPECIAL_TOKENS, EOD) if self.separator == "eod" else SPECIAL_TOKENS

    def shards_identity(self) -> dict[str, Any]:
        """What decides the shard files, given the documents, their split and their tokens."""
        return {
            "rows": "within" if self.packing == "pairs" else self.packing,
            **self.model_dump(mode="json", include={"batches", "separator", "block_tokens", "shard_mib"}),
        }

    def problems(self) -> Iterator[Problem]:
        """What must hold between how documents become blocks and in which order those come."""
        if self.packing == "documents" and self.batches == "bucketed":
            yield Problem(("pack",), "must be within, pairs or lines where data.batches is bucketed", self.pack)
        if self.packing != "documents" and self.separator == "eod":
            rule = f"must be sep where data.pack is {self.packing}: no block holds a second document"
            yield Problem(("separator",), rule, self.separator)
        if self.curriculum == "length" and self.batches == "packed":
            rule = "must be none where data.batches is packed: all blocks are of one length"
            yield Problem(("curriculum",), rule, self.curriculum)
        if self.batches == "bucketed" and any(weight != 1 for weight in self.corpus.weights().values()):
            rule = "must be packed where the corpus has weights, which decide how often a block comes"
            yield Problem(("batches",), rule, self.batches)
