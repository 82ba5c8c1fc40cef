"""What every corpus promises, and that each has an example spec that works."""

import itertools
import pickle
from pathlib import Path

import pytest

from reforge.corpora import CORPORA, Corpus, Slice, Tally
from reforge.runs import PrepareJob
from reforge.spec import UserError, load_source, validate

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "jobs" / "specs" / "corpora"
KINDS = sorted(CORPORA)
LOCAL = sorted(CORPORA.keys() - {"huggingface"})  # which would ask the hub, and wait for it where there is none
MOST_SLICES = 4


def test_every_kind_has_an_example_and_every_example_a_kind() -> None:
    assert sorted(spec.stem for spec in SPECS.glob("*.yaml")) == KINDS


def example(kind: str, monkeypatch: pytest.MonkeyPatch) -> PrepareJob:
    """The example's job; skips where its corpus is not on this machine."""
    monkeypatch.chdir(ROOT)
    source = load_source(SPECS / f"{kind}.yaml")
    assert source.data["data"]["corpus"]["kind"] == kind
    try:
        return validate(PrepareJob, source)
    except UserError as error:
        problems = str(error).splitlines()[1:]
    assert len(problems) == 1, problems  # nothing is wrong with the spec but where it looks
    assert "corpus" in problems[0]
    pytest.skip(f"needs the corpus of {kind}: {problems[0].strip()}")


@pytest.mark.slow  # reads some tens of megabytes
@pytest.mark.parametrize("kind", LOCAL)
def test_slices_read_one_by_one_give_the_documents_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = example(kind, monkeypatch).data.corpus
    wholes = corpus.whole()[:MOST_SLICES]
    together, apart = Tally(), Tally()
    documents = list(corpus.read(wholes, together))
    assert documents
    one_by_one = []
    for part in wholes:
        for piece in in_three(corpus, part):
            received: tuple[Corpus, Slice] = pickle.loads(pickle.dumps((corpus, piece)))
            one_by_one += received[0].read([received[1]], apart)
    assert [document.text for document in one_by_one] == [document.text for document in documents]
    assert [document.key for document in one_by_one] == [document.key for document in documents]
    assert {document.group for document in documents} <= set(corpus.weights() or {""})
    assert all(bool(document.key) <= corpus.keyed for document in documents)
    counts = together.as_dict()
    assert apart.as_dict() == counts
    assert counts["documents"] == len(documents)
    assert counts["characters"] == sum(len(document.text) for document in documents)


def in_three(corpus: Corpus, whole: Slice) -> list[Slice]:
    """A source cut at two offsets, where it may be cut."""
    if not corpus.cuttable(whole):
        return [whole]
    size = corpus.extent(whole).num_rows if whole.file is None else whole.file.stat().st_size
    edges = [None, size // 3, size // 2, None]
    return [whole._replace(start=start or 0, stop=stop) for start, stop in itertools.pairwise(edges)]


@pytest.mark.slow  # looks through folders of real data
@pytest.mark.parametrize("kind", LOCAL)
def test_what_identifies_a_corpus_does_not_say_where_it_lies(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = example(kind, monkeypatch).data.corpus
    assert "shared/data" not in str(corpus.identity())
    assert len(corpus.files()) == len(corpus.file_names()) == len(set(corpus.file_names()))
    assert not any("shared/data" in name for name in corpus.file_names())
