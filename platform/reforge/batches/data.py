"""The `data:` section of a job spec."""

from pydantic import Field

from reforge.corpora import AnyCorpus
from reforge.spec import Part


class Data(Part):
    """Which text, in blocks of how many tokens, and how much of it is held out.

    block_tokens: length of a block, its leading [CLS] included
    valid_fraction: the share of documents that validation gets, by a hash of each document's text
    shard_mib: size that no shard file exceeds, unless a single block does
    """

    corpus: AnyCorpus
    block_tokens: int = Field(default=512, ge=16, le=2**20)
    valid_fraction: float = Field(default=0.01, gt=0, le=0.5)
    shard_mib: int = Field(default=256, ge=1)
