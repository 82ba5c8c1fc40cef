"""The rules between how documents become blocks and in which order those come, and what decides the shards."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reforge.batches import Data
from reforge.corpora import Corpus, Document, Slice, Tally
from reforge.corpora.text import Text


class Weighted(Corpus):
    """A corpus whose documents have groups."""

    kind: str = "weighted"
    news: float = 2.0

    def weights(self) -> Mapping[str, float]:
        return {"wiki": 1.0, "news": self.news}

    def read(self, slices: Sequence[Slice], tally: Tally) -> Iterator[Document]:
        raise NotImplementedError


def data(**options: Any) -> Data:
    """Of a small text corpus, or of a corpus that is in no registry."""
    corpus = options.pop("corpus", Text(path=Path("x")))
    return Data(corpus=Text(path=Path("x")), **options).model_copy(update={"corpus": corpus})


def rules(**options: Any) -> list[str]:
    return [f"{'.'.join(map(str, problem.path))}: {problem.rule}" for problem in data(**options).problems()]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (
            {"batches": "bucketed", "pack": "documents"},
            "pack: must be within, pairs or lines where data.batches is buck",
        ),
        ({"pack": "within", "separator": "eod"}, "separator: must be sep where data.pack is within: no block holds"),
        ({"batches": "bucketed", "separator": "eod"}, "separator: must be sep where data.pack is within: no block"),
        ({"curriculum": "length"}, "curriculum: must be none where data.batches is packed: all blocks are of one"),
        ({"batches": "bucketed", "corpus": Weighted()}, "batches: must be packed where the corpus has weights"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], rule: str) -> None:
    [found] = rules(**options)
    assert found.startswith(rule)


@pytest.mark.parametrize(
    "options",
    [
        {"separator": "eod"},
        {"pack": "pairs"},
        {"pack": "lines", "corpus": Weighted()},
        {"batches": "bucketed", "pack": "lines", "curriculum": "length"},
        {"batches": "bucketed", "corpus": Weighted(news=1.0)},
    ],
)
def test_what_can_be(options: dict[str, Any]) -> None:
    assert rules(**options) == []


def test_auto_follows_the_batches() -> None:
    assert (data().packing, data(batches="bucketed").packing) == ("documents", "within")
    assert data(batches="bucketed", pack="lines").packing == "lines"


def test_the_vocabulary_has_the_separator() -> None:
    assert data().special_tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert data(separator="eod").special_tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOD]")


def test_what_does_not_change_the_shards_is_not_in_their_identity() -> None:
    plain = data(batches="bucketed").shards_identity()
    for same in ({"pack": "pairs"}, {"pack": "within"}, {"curriculum": "length"}):
        assert data(batches="bucketed", **same).shards_identity() == plain
    others = ({"pack": "lines"}, {"block_tokens": 64}, {"shard_mib": 1}, {"batches": "packed", "pack": "within"})
    identities = [plain, *(data(**{"batches": "bucketed", **other}).shards_identity() for other in others)]
    identities += [data().shards_identity(), data(separator="eod").shards_identity()]
    assert len({str(identity) for identity in identities}) == len(identities)
