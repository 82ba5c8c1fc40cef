"""The `data:` section of a job spec."""

from typing import Literal

from pydantic import Field

from reforge.corpora import AnyCorpus
from reforge.spec import Part


class Data(Part):
    """Which text, in blocks of how many tokens, and how much of it is held out.

    batches: `packed` joins documents and cuts them into blocks of one length, which leaves no padding; `bucketed` keeps
        each document by itself, for corpora of short ones and for objectives that pair documents, in batches of rows
        of similar length
    block_tokens: length of a block, or of the longest row, its special tokens included
    valid_fraction: the share of documents that validation gets, by a hash of each document's text
    shard_mib: size that no shard file exceeds, unless a single block does
    """

    corpus: AnyCorpus
    batches: Literal["packed", "bucketed"] = "packed"
    block_tokens: int = Field(default=512, ge=16, le=2**20)
    valid_fraction: float = Field(default=0.01, gt=0, le=0.5)
    shard_mib: int = Field(default=256, ge=1)
