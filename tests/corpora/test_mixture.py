"""Several corpora as one: names, groups, weights, and what is wrong with a mixture."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import AnyCorpus, Corpus, Document, Tally
from reforge.corpora.jsonl import Jsonl
from reforge.corpora.kowiki import Kowiki
from reforge.corpora.mixture import Mixture, Source
from reforge.corpora.pile import Pile
from reforge.corpora.python_docs import PythonDocs
from reforge.corpora.text import Text
from reforge.spec import Part, SpecError, load_source, validate

PILE = [
    {"text": "책이다.", "meta": {"pile_set_name": "Books3"}},
    {"text": "위키이다.", "meta": {"pile_set_name": "Wikipedia (en)"}},
]


class Job(Part):
    corpus: AnyCorpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("하나\n둘\n")
    (tmp_path / "text" / "b.txt").write_text("셋\n")
    (tmp_path / "pile.jsonl").write_text("\n".join(map(json.dumps, PILE)))
    return tmp_path


def mixture(folder: Path) -> Mixture:
    return Mixture(
        sources={
            "lines": Source(corpus=Text(path=folder / "text", documents_by="line"), weight=2.0),
            "pile": Source(
                corpus=Pile(path=folder / "pile.jsonl", subsets={"Books3": 3.0, "Wikipedia (en)": 0.5}), weight=0.5
            ),
        }
    )


def test_documents_of_all_sources_in_their_order(folder: Path) -> None:
    tally = Tally()
    assert list(mixture(folder).documents(tally)) == [
        Document("lines/a.txt: byte 0", "하나", group="lines"),
        Document("lines/a.txt: byte 7", "둘", group="lines"),
        Document("lines/b.txt: byte 0", "셋", group="lines"),
        Document("pile/pile.jsonl: byte 0", "책이다.", group="pile/Books3"),
        Document("pile/pile.jsonl: byte 69", "위키이다.", group="pile/Wikipedia (en)"),
    ]
    assert (tally.files, tally.documents) == (3, 5)


def test_weights_multiply(folder: Path) -> None:
    assert mixture(folder).weights() == {"lines": 2.0, "pile/Books3": 1.5, "pile/Wikipedia (en)": 0.25}


def test_ranges_go_to_their_sources(folder: Path, reads_the_same_in_ranges: Callable[[Corpus], None]) -> None:
    corpus = mixture(folder)
    assert [(part.name, part.member) for part in corpus.whole()] == [
        ("lines/a.txt", 0),
        ("lines/b.txt", 0),
        ("pile/pile.jsonl", 1),
    ]
    reads_the_same_in_ranges(corpus)
    last_first = list(corpus.read(corpus.whole()[::-1], Tally()))
    assert sorted(last_first) == sorted(corpus.documents(Tally()))


def test_files_and_identity_do_not_depend_on_the_place(folder: Path) -> None:
    corpus = mixture(folder)
    assert corpus.file_names() == ["lines/a.txt", "lines/b.txt", "pile/pile.jsonl"]
    assert [file.name for file in corpus.files()] == ["a.txt", "b.txt", "pile.jsonl"]
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert mixture(moved).identity() == corpus.identity()
    assert str(folder) not in json.dumps(corpus.identity())
    backwards = Mixture(sources=dict(reversed(corpus.sources.items())))
    assert json.dumps(backwards.identity(), sort_keys=True) != json.dumps(corpus.identity(), sort_keys=True)
    assert set(corpus.classes()) == {Mixture, Text, Pile}


def test_sources_without_files_are_members_too(folder: Path) -> None:
    corpus = Mixture(sources={"docs": Source(corpus=PythonDocs())})
    assert next(corpus.documents(Tally())).group == "docs"
    assert not corpus.cuttable(corpus.whole()[0])
    assert corpus.extent(corpus.whole()[0]) == PythonDocs().extent(PythonDocs().whole()[0])


def test_two_sources_with_the_same_file(folder: Path) -> None:
    (folder / "again").symlink_to(folder / "text")
    corpus = Mixture(
        sources={
            "a": Source(corpus=Text(path=folder / "text")),
            "b": Source(corpus=Kowiki(path=folder / "pile.jsonl")),
            "c": Source(corpus=Text(path=folder / "again" / "b*")),
        }
    )
    [problem] = corpus.problems()
    assert problem.path == ("sources", "c", "corpus")
    assert problem.rule == f"must not hold a file of source 'a' again: {folder / 'again' / 'b.txt'}"


def test_a_mixture_in_yaml(folder: Path) -> None:
    (folder / "job.yaml").write_text(
        f"corpus:\n  kind: mixture\n  sources:\n"
        f"    own: {{corpus: {{kind: jsonl, path: {folder}/pile.jsonl}}, weight: 2}}\n"
        f"    lines: {{corpus: {{kind: text, path: {folder}/text}}}}\n"
    )
    corpus = validate(Job, load_source(folder / "job.yaml")).corpus
    assert isinstance(corpus, Mixture)
    assert isinstance(corpus.sources["own"].corpus, Jsonl)
    assert corpus.weights() == {"own": 2.0, "lines": 1.0}
    assert Mixture.model_validate_json(corpus.model_dump_json()) == corpus


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "{corpus: {kind: text, path: TEXT, documents_bi: line}}",
            "corpus.sources.b.corpus.documents_bi: unknown key; did you mean documents_by?",
        ),
        ("{corpus: {kind: text, path: TEXT}, weight: 0}", "corpus.sources.b.weight: must be a number > 0; got 0"),
        ("{corpus: {kind: tekst, path: TEXT}}", "corpus.sources.b.corpus.kind: unknown kind; must be one of "),
        ("{corpus: {kind: mixture, sources: {}}}", "corpus.sources.b.corpus.kind: unknown kind; must be one of "),
        ("{corpus: {kind: text, path: TEXT/missing}}", "corpus.sources.b.corpus.path: must exist; got "),
        ("{kind: text, path: TEXT}", "corpus.sources.b.corpus: missing"),
    ],
)
def test_what_is_wrong_with_a_source_is_said_with_its_line(folder: Path, line: str, says: str) -> None:
    (folder / "job.yaml").write_text(
        f"corpus:\n  kind: mixture\n  sources:\n    a: {{corpus: {{kind: pile, path: {folder}/pile.jsonl}}}}\n"
        f"    b: {line.replace('TEXT', str(folder / 'text'))}\n"
    )
    with pytest.raises(SpecError) as raised:
        validate(Job, load_source(folder / "job.yaml"))
    assert any(f"{folder}/job.yaml:5: {says}" in str(problem) for problem in raised.value.problems), raised.value


def test_sources_have_names(folder: Path) -> None:
    source = Source(corpus=Text(path=folder / "text"))
    for sources in ({}, {"": source}):
        with pytest.raises(ValueError, match="sources"):
            Mixture(sources=sources)
    [problem] = Mixture(sources={"a/b": source}).problems()
    assert str(problem) == 'sources.a/b: must have a name without "/"'


def test_a_mixture_survives_a_pickle(folder: Path) -> None:
    corpus = pickle.loads(pickle.dumps(mixture(folder)))
    assert corpus == mixture(folder)
    assert list(corpus.read(pickle.loads(pickle.dumps(corpus.whole())), Tally())) == list(corpus.documents(Tally()))
