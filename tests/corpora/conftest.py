"""What the tests of several corpora need: reading in ranges that are cut anywhere."""

import contextlib
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import Corpus, Document, Slice, Tally
from reforge.corpora.streams import DamagedError, unpacked

CutAnywhere = Callable[[Corpus], None]


def size_of(corpus: Corpus, whole: Slice) -> int:
    """Unpacked bytes of a file as far as it can be unpacked, or rows where there is no file."""
    if whole.file is None:
        return corpus.extent(whole).num_rows
    size = 0
    with contextlib.suppress(DamagedError), unpacked(whole.file) as content:
        while part := content.read1():
            size += len(part)
    return size


def cut(whole: Slice, offsets: list[int]) -> list[Slice]:
    """The slice cut at the offsets."""
    bounds = [0, *offsets, None]
    return [whole._replace(start=a or 0, stop=b) for a, b in itertools.pairwise(bounds)]


@pytest.fixture
def reads_the_same_in_ranges() -> CutAnywhere:
    """Checks that a corpus cut between any two offsets gives the documents and counts of the whole."""

    def check(corpus: Corpus, times: int = 12) -> None:
        whole_tally = Tally()
        expected = list(corpus.documents(whole_tally))
        wholes = corpus.whole()
        assert all(corpus.cuttable(whole) for whole in wholes)
        chance = random.Random(7)
        sizes = [size_of(corpus, whole) for whole in wholes]
        every_offset = [list(range(1, size + 2)) for size in sizes]
        few_offsets = [[sorted(chance.choices(range(1, size + 2), k=3)) for size in sizes] for _ in range(times)]
        for offsets in [*few_offsets, *([every_offset] if sum(sizes) < 250 else [])]:
            tally = Tally()
            found: list[Document] = []
            for whole, places in zip(wholes, offsets, strict=True):
                for part in cut(whole, places):
                    part_tally = Tally()
                    found += corpus.read([part], part_tally)
                    tally.add(part_tally)
            assert found == expected
            assert tally.as_dict() | {"trouble": []} == whole_tally.as_dict() | {"trouble": []}

    return check


@pytest.fixture
def shared() -> Path:
    """The real data beside the repository; what needs it skips where it is absent."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
