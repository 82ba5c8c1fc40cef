"""Korpora's wikitext layout: kowikitext and namuwikitext as they lie on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import CORPORA, Corpus, Document, Tally
from reforge.corpora.kowikitext import Kowikitext

TEXT = """= 강 =

 = = 이름 = =

강은 물이 ( , 땅을 따라 ) 흐르는 길이다.
A = B 와 C 사이를 흐른다.

 = = = 빈 절 = = =

 = 빈 문서 =

 = a = b =

 = = 뜻 = =

이 글은 이름에 부호가 있는 문서이다.
 = = 끝 = =

 = 내 =

짧다.
"""


def read(corpus: Corpus) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(corpus.documents(tally)), tally


@pytest.mark.parametrize("kind", ["kowikitext", "namuwikitext"])
def test_articles_with_their_titles(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"{kind}.train").write_text(TEXT)
    (tmp_path / f"{kind}.train.zip").write_bytes(b"PK what Korpora downloaded")
    documents, tally = read(CORPORA[kind](path=tmp_path))  # type: ignore[call-arg]
    assert documents == [
        Document(f"{kind}.train: 강", "강\n강은 물이 (땅을 따라) 흐르는 길이다.\nA = B 와 C 사이를 흐른다."),
        Document(f"{kind}.train: a = b", "a = b\n이 글은 이름에 부호가 있는 문서이다."),
    ]
    assert tally.dropped == {"title only": 1, "body shorter than 20 characters": 1}
    assert tally.fixed["heading left out"] == 4


def test_headings_stay_on_request(tmp_path: Path) -> None:
    (tmp_path / "kowikitext.dev").write_text(TEXT)
    documents, _ = read(Kowikitext(path=tmp_path, keep_headings=True, min_chars=1))
    assert documents[0].text.startswith("강\n이름\n강은")
    assert documents[0].text.endswith("흐른다.")
    assert len(documents) == 3


def test_ranges(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus, int], None]) -> None:
    (tmp_path / "kowikitext.train").write_text("머리글\n" + TEXT)
    (tmp_path / "kowikitext.dev").write_text(" = 가 =\n = 나 =\n글\n = 다 =")
    reads_the_same_in_ranges(Kowikitext(path=tmp_path, min_chars=1), 60)


def test_real_files(shared: Path) -> None:
    documents, tally = read(CORPORA["namuwikitext"](path=shared / "namuwikitext"))  # type: ignore[call-arg]
    assert len(documents) == 26
    assert tally.dropped == {"nothing but headings and markup": 1}
    assert not any(" = " in document.text.split("\n")[0] for document in documents)
