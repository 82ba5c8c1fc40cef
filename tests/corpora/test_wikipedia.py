"""Raw dumps of wikis, and extractors' files in other languages than Korean."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from reforge.corpora import CORPORA, Corpus, Document, Tally
from reforge.corpora.kowiki import Kowiki
from reforge.corpora.wikipedia import Wikipedia
from reforge.spec import UserError

RIVER = "'''강'''은 물이 [[땅]]을 따라 흐르는 길이다. <ref>\n\n각주</ref>\n\n== 이름 ==\n& < > 는 이름이 아니다."
HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="ko">\n  <siteinfo>\n  </siteinfo>\n'


def page(title: str, text: str, namespace: str = "0", more: str = "", revisions: int = 1) -> str:
    revision = "    <revision>\n      <id>1</id>\n      <text bytes='1'>{}</text>\n    </revision>\n"
    old = "".join(revision.format(f"옛 글 {number}") for number in range(1, revisions))
    name = f"    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n{more}"
    return f"  <page>\n{name}{old}{revision.format(escape(text))}  </page>\n"


DUMP = (
    HEAD
    + page("강 &amp; 산", RIVER)
    + page("가람", "#넘겨주기 [[강]]")
    + page("개울", "#REDIRECT [[강]]", more='    <redirect title="강" />\n')
    + page("틀:강", RIVER, namespace="10")
    + page("빈 문서", "")
    + page("내", "내는 강보다 작은 물줄기를 이르는 말이다.", revisions=3)
    + page("엉킨 문서", "{{" * 3000)
    + "</mediawiki>\n"
)
DROPPED = {
    "redirect": 2,
    "page of another namespace": 1,
    "title only": 1,
    "page with markup that is opened and not closed": 1,
}


def read(corpus: Corpus) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(corpus.documents(tally)), tally


@pytest.mark.parametrize("kind", ["kowiki", "wikipedia"])
@pytest.mark.parametrize(
    "packed", [("dump.xml", bytes), ("dump.xml.bz2", bz2.compress), ("dump.xml.gz", gzip.compress)]
)
def test_a_dump_in_any_packing(tmp_path: Path, kind: str, packed: tuple[str, Callable[[bytes], bytes]]) -> None:
    name, pack = packed
    (tmp_path / name).write_bytes(pack(DUMP.encode()))
    documents, tally = read(CORPORA[kind](path=tmp_path))  # type: ignore[call-arg]
    assert documents == [
        Document(f"{name}: 강 & 산", "강 & 산\n강은 물이 땅을 따라 흐르는 길이다.\n& < > 는 이름이 아니다."),
        Document(f"{name}: 내", "내\n내는 강보다 작은 물줄기를 이르는 말이다."),
    ]
    assert tally.dropped == DROPPED
    assert tally.fixed["heading left out"] == 1


def test_a_dump_of_many_parts(tmp_path: Path) -> None:
    parts = [HEAD + page("강", RIVER), page("산", RIVER)]
    (tmp_path / "dump.xml.bz2").write_bytes(b"".join(bz2.compress(part.encode()) for part in parts))
    assert len(read(Wikipedia(path=tmp_path))[0]) == 2


def test_a_dump_in_ranges(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus, int], None]) -> None:
    (tmp_path / "dump.xml").write_text(DUMP)
    (tmp_path / "rest.xml.bz2").write_bytes(bz2.compress(DUMP.encode()))
    reads_the_same_in_ranges(Kowiki(path=tmp_path), 40)


def test_a_damaged_dump_is_said_or_counted(
    tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus, int], None]
) -> None:
    file = tmp_path / "dump.xml"
    file.write_text(
        HEAD + page("강", RIVER) + page("산", "글 &nbsp 글").replace("&amp;", "&") + page("내", RIVER)[:-12]
    )
    with pytest.raises(UserError, match=r"dump\.xml:24: a page that ends here is no XML"):
        read(Kowiki(path=file))
    corpus = Kowiki(path=file, on_bad_record="skip")
    documents, tally = read(corpus)
    assert [document.name for document in documents] == ["dump.xml: 강"]
    assert tally.dropped == {"page that is no XML": 1, "page without its end": 1}
    assert len(tally.trouble) == 2
    reads_the_same_in_ranges(corpus, 20)


def test_a_dump_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "dump.xml.bz2"
    parts = [bz2.compress((HEAD + page("강", RIVER)).encode()), bz2.compress(page("산", RIVER).encode())]
    file.write_bytes(b"".join(parts)[:-20])
    with pytest.raises(UserError, match=r"dump\.xml\.bz2 is no whole \.bz2 file"):
        read(Kowiki(path=file))
    documents, tally = read(Kowiki(path=file, on_bad_record="skip"))
    assert len(documents) == 1
    assert tally.dropped["rest of a damaged file"] == 1


def test_short_english_sentences_are_no_headings(tmp_path: Path) -> None:
    (tmp_path / "wiki_00").write_text(
        '<doc id="1" title="Rain">\nRain\n\nIt rains.\nRain is water that falls down.\n</doc>\n'
    )
    [document], _ = read(Wikipedia(path=tmp_path))
    assert document.text == "Rain\nIt rains.\nRain is water that falls down."


def test_real_dumps(shared: Path) -> None:
    documents, tally = read(Wikipedia(path=shared / "mediawiki-xml" / "enwiki-table-markup.xml.bz2"))
    assert len(documents) == 5
    text = "\n".join(document.text for document in documents)
    for residue in ("{{", "}}", "[[", "]]", "'''", "<ref", "{|", "|-", "==", "()", "(, "):
        assert residue not in text, residue
    assert len(text) > 60_000
    assert tally.fixed["table left out"] == 20
