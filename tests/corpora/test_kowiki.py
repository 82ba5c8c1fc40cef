"""Korean Wikipedia, in the layouts people have it in: what a reader sees, and what was counted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import Corpus, Document, Tally
from reforge.corpora.kowiki import Kowiki
from reforge.corpora.parentheses import repair_parentheses

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "kowiki"

FARMER = """<doc id="5" url="https://example.org/wiki?curid=5" title="김 아무개">
김 아무개

김 아무개(, 1901년 3월 2일 ~ )는 꾸며 낸 이야기에 나오는 농부이다.
생애.
어느 마을에서 태어났다.&lt;br&gt;소를 길렀다.&amp;nbsp;그리고 노래를 불렀다.

</doc>
<doc id="6" url="https://example.org/wiki?curid=6" title="아무개">
아무개

</doc>
"""


def read(path: Path, text: str, **options: object) -> tuple[list[Document], Tally]:
    path.write_text(text, encoding="utf-8")
    tally = Tally()
    return list(Kowiki(path=path, **options).documents(tally)), tally  # type: ignore[arg-type]


def test_wikiextractor_documents_come_clean_and_counted(tmp_path: Path) -> None:
    documents, tally = read(tmp_path / "wiki_00", FARMER)
    assert documents == [
        Document(
            "wiki_00: 김 아무개",
            "김 아무개\n"
            "김 아무개(1901년 3월 2일 ~)는 꾸며 낸 이야기에 나오는 농부이다.\n"
            "어느 마을에서 태어났다.\n"
            "소를 길렀다. 그리고 노래를 불렀다.",
        )
    ]
    assert tally.dropped == {"title only": 1}
    assert tally.fixed == {
        "escaped entity": 3,
        "line break tag": 1,
        "parentheses repaired": 1,
        "heading left out": 1,
    }
    assert (tally.files, tally.documents) == (1, 1)


def test_blank_lines_between_paragraphs_do_not_end_a_wikiextractor_document(tmp_path: Path) -> None:
    text = '<doc id="1" title="가">\n가\n\n첫 문단은 이렇게 시작한다.\n\n둘째 문단은 이렇게 끝난다.\n\n</doc>\n'
    [document], _ = read(tmp_path / "wiki_00", text)
    assert document.text == "가\n첫 문단은 이렇게 시작한다.\n둘째 문단은 이렇게 끝난다."


def test_title_and_body_layout(tmp_path: Path) -> None:
    text = "물\n물(水, )은 산소와 수소의 화합물이다.\n성질.\n투명하다.\n\n제목뿐\n\n"
    text += "불\n불은 물질이 산소와 만나 타는 현상이다.\n"
    documents, tally = read(tmp_path / "kowiki.txt", text)
    assert [document.text for document in documents] == [
        "물\n물(水)은 산소와 수소의 화합물이다.\n투명하다.",
        "불\n불은 물질이 산소와 만나 타는 현상이다.",
    ]
    assert tally.dropped == {"title only": 1}


def test_wikiextractor_json(tmp_path: Path) -> None:
    rows = [
        {
            "id": "1",
            "revid": "9",
            "url": "https://example.org/1",
            "title": "물",
            "text": "물(水, )은 액체이다.\n성질.\n투명하다.",
        },
        {"id": "2", "revid": "9", "url": "https://example.org/2", "title": "불 &amp; 물", "text": ""},
        {"id": "3", "title": "불", "text": "불\n\n불은 물질이 산소와 만나 타는 현상이다."},
    ]
    documents, tally = read(tmp_path / "wiki_00", "\n".join(map(json.dumps, rows)), min_chars=1)
    assert documents == [
        Document("wiki_00: 물", "물\n물(水)은 액체이다.\n투명하다."),
        Document("wiki_00: 불", "불\n불은 물질이 산소와 만나 타는 현상이다."),
    ]
    assert tally.dropped == {"title only": 1}


def test_every_layout_in_ranges(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus, int], None]) -> None:
    title_body = (
        "\ufeff물\n물은 산소와 수소의 화합물이다.\n\n\n제목뿐\n\n불\r\n불은 물질이 산소와 만나 타는 현상이다.\r\n \r\n"
    )
    row = json.dumps({"title": "물", "text": "물은 산소와 수소의 화합물인 액체이다."}) + "\n"
    layouts = {
        "AA/wiki_00": "\n" + FARMER * 2 + "밖의 글\n" + FARMER[:-8],
        "AA/wiki_01": FARMER,
        "json": row * 3,
        "titles.txt": title_body,
    }
    (tmp_path / "AA").mkdir()
    for name, text in layouts.items():
        (tmp_path / name).write_text(text)
    reads_the_same_in_ranges(Kowiki(path=tmp_path), 60)


def test_headings_stay_on_request_but_not_without_text_below(tmp_path: Path) -> None:
    text = "물\n물은 산소와 수소의 화합물인 액체이다.\n성질.\n투명하다.\n외부 링크.\n같이 보기.\n"
    [document], tally = read(tmp_path / "kowiki.txt", text, keep_headings=True)
    assert document.text == "물\n물은 산소와 수소의 화합물인 액체이다.\n성질.\n투명하다."
    assert tally.fixed["heading without text left out"] == 2


def test_what_is_dropped_has_a_reason(tmp_path: Path) -> None:
    text = "가\n짧다.\n\n나\n개요.\n\n다\n이 문서는 스무 글자가 넘으니까 남을 것이다.\n"
    documents, tally = read(tmp_path / "kowiki.txt", text)
    assert [document.name for document in documents] == ["kowiki.txt: 다"]
    assert tally.dropped == {"body shorter than 20 characters": 1, "nothing but headings and markup": 1}
    assert len(read(tmp_path / "kowiki.txt", text, min_chars=1)[0]) == 2


@pytest.mark.parametrize("tail", ["", "\n<doc id='2'"])
def test_a_document_cut_off_by_the_end_of_the_file_is_kept_and_counted(tmp_path: Path, tail: str) -> None:
    text = '<doc id="1" title="가">\n가\n\n파일이 여기에서 중간에 끊어졌지만 글은 남는다.' + tail
    [document], tally = read(tmp_path / "wiki_00", text)
    assert "끊어졌지만" in document.text
    assert tally.fixed["<doc> without its end"] == 1


def test_markup_that_extractors_leave(tmp_path: Path) -> None:
    body = (
        "<onlyinclude>대한민국의 [[서울|수도]]는 [[서울]]이다.<ref name=a>각주</ref> 그리고 크다.</onlyinclude>\n"
        "운동 에너지는 formula_12와 같다. 속도가 커지면 에너지도 커진다. 질량(formula_3)도 마찬가지이다.\n"
        "formula_7\n"
        "colspan=2| 합계 || 46 || 46\n"
        "[[분류:대한민국]]\n"
        "소설 《》도 있다. 코드는 printf()와 for (;;) 그리고 <stdio.h>이다.\n"
    )
    [document], _ = read(tmp_path / "kowiki.txt", "제목\n" + body)
    assert document.text.split("\n")[1:] == [
        "대한민국의 수도는 서울이다. 그리고 크다.",
        "속도가 커지면 에너지도 커진다. 질량도 마찬가지이다.",
        "소설 도 있다. 코드는 printf()와 for (;;) 그리고 <stdio.h>이다.",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("위키(, )는", "위키는"),
        ("가위()는", "가위는"),
        ("솔 () 음", "솔 음"),
        ("문학(文學, )은", "문학(文學)은"),
        ("정주영(鄭周永, )은", "정주영(鄭周永)은"),
        ("수학(數學, , 줄여서 math)은", "수학(數學, 줄여서 math)은"),
        ("제국(; ; )은", "제국은"),
        ("배우( ~ )는", "배우는"),
        ("아무개(, 1924년 10월 1일 ~ )는", "아무개(1924년 10월 1일 ~)는"),
        ("삼각형( 또는 )는", "삼각형는"),
        ("재단( 줄여서 FSF)은", "재단(줄여서 FSF)은"),
        ("표기법(영어:)은", "표기법은"),
        ("사탄(영어: , 독일어: Satan)", "사탄(독일어: Satan)"),
        ("Nidden(, 리투아니아)에", "Nidden(리투아니아)에"),
        ("NATO()는", "NATO는"),
        ("나토(, 약칭 NATO(나토), )는", "나토(약칭 NATO(나토))는"),
        ("식(識,\n)은", "식(識)은"),
        ("두 딸(2003년~)이", "두 딸(2003년~)이"),
        ("하이픈(-)만", "하이픈(-)만"),
        ("쉼표(,)를", "쉼표(,)를"),
        ("물결표(~)는", "물결표(~)는"),
        ("( )안은", "( )안은"),
        ("main() 함수", "main() 함수"),
        ("x = Foo();", "x = Foo();"),
        ("print(x, )", "print(x, )"),
        ("for (; i < n; i++)", "for (; i < n; i++)"),
        ("(1, 2, 3)", "(1, 2, 3)"),
    ],
)
def test_parentheses(before: str, after: str) -> None:
    text, changed = repair_parentheses(before)
    assert text == after
    assert (changed > 0) == (before != after) or "\n" in before


def test_decomposed_hangul_and_odd_spaces(tmp_path: Path) -> None:
    decomposed = "\u1112\u1161\u11ab\u1100\u1173\u11af"  # 한글 as macOS writes it
    [document], _ = read(tmp_path / "a", f"제목\n{decomposed}\u00a0문서는\u3000 공백이\u200b 여러 가지로 들어 있다.\n")
    assert document.text == "제목\n한글 문서는 공백이 여러 가지로 들어 있다."


@pytest.mark.parametrize("layout", ["wikiextractor_doc/AA/wiki_00", "wikiextractor_2020_blankline", "title_body"])
def test_real_files(layout: str) -> None:
    if not (REAL / layout).exists():
        pytest.skip(f"no real data at {REAL / layout}")
    tally = Tally()
    documents = []
    for document in Kowiki(path=REAL / layout).documents(tally):
        documents.append(document)
        if len(documents) == 400:
            break
    text = "\n".join(document.text for document in documents)
    assert len(documents) >= 100
    assert sum("가" <= char <= "힣" for char in text) > 0.4 * len(text)
    for residue in ("&lt;", "&amp;", "<br", "</doc>", "formula_", "(, ", "\n\n", "[[분류:"):
        assert residue not in text, residue
    assert min(len(document.text) for document in documents) > 20
