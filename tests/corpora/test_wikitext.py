"""Wiki markup as editors write it: what a reader of the page sees of it."""

import pytest

from reforge.corpora import Tally
from reforge.corpora.wiki_markup import clean
from reforge.corpora.wikitext import WikitextError, heading_of, plain_text

FARMER = """{{인물 정보|이름=김 아무개|그림=[[파일:farmer.jpg|100px]]}}
'''김 아무개'''({{llang|en|Some Kim}}, {{발음|김}}, 1901년 ~ )는 [[소설|이야기]]에 나오는 [[농부]]이다.<ref>
{{책 인용|제목=글}}</ref>
[[파일:field.png|섬네일|오른쪽|[[밭]]에서 쉬는 소]]
{| class="wikitable"
! 해 !! 소
|-
| 1901 || {{수|1}}
|}
== 생애 ==
<!-- 고칠 것 -->밭은 {{convert|5|km|mi}} 떨어져 있었다.&nbsp;길은 멀었다.<br />-{강}-을 건넜다.
넓이는 <math>a^2</math>이다. 그래도 좁았다.

=== 노래 ===
* ''봄''을 불렀다.
# [http://example.org 여름]도 불렀다.
; 가을 : 거둘 때 부른다.
<gallery>
파일:a.jpg|그림
</gallery>
__목차없음__

== 각주 ==
{{각주}}
=== 더 있는 각주 ===
버릴 글
== 평가 ==
[[:분류:농부|농부들]]은 그를 좋아한다.
== 같이 보기 ==
* [[들]]

[[분류:농부]]
"""


def read(wikitext: str, keep_headings: bool = False) -> tuple[list[str], Tally]:
    tally = Tally()
    text = plain_text(wikitext, tally)
    return clean(text, tally, keep_headings=keep_headings, heading_of=heading_of).split("\n"), tally


def test_a_page_reads_as_it_is_seen() -> None:
    lines, tally = read(FARMER, keep_headings=True)
    assert lines == [
        "김 아무개(Some Kim, 1901년 ~)는 이야기에 나오는 농부이다.",
        "생애",
        "밭은 5 km 떨어져 있었다. 길은 멀었다.",
        "강을 건넜다.",
        "그래도 좁았다.",
        "노래",
        "봄을 불렀다.",
        "여름도 불렀다.",
        "가을 : 거둘 때 부른다.",
        "평가",
        "농부들은 그를 좋아한다.",
    ]
    assert {
        reason: tally.fixed[reason] for reason in ("template", "table left out", "section of references or links")
    } == {
        "template": 2,
        "table left out": 1,
        "section of references or links": 2,
    }


def test_headings_go_by_default() -> None:
    lines, tally = read(FARMER)
    assert "생애" not in lines
    assert tally.fixed["heading left out"] == 3


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''가'''와 ''나''", "가와 나"),
        ("[[강|큰 [[강]]]]", "큰 강"),
        ("[[Category:Rivers]][[:Category:Rivers|rivers]]", "rivers"),
        ("[[Datei:a.jpg|mini|Text]]그림", "그림"),
        ("[[en:River]]강", "강"),
        ("[[CSI: 강]], [[위키:강]], [[w:River|river]]", "CSI: 강, 위키:강, river"),
        ("글\n{| a\n|\n: {| b\n| 안 || {{x|\n|}}\n|}\n|}\n끝", "글끝"),
        ("{{nowrap|한 줄 {{lang|en|line}}}}", "한 줄 line"),
        ("{{lang-de|Fluss}}", "Fluss"),
        ("{{convert|5|to|8|km|mi|abbr=on}}", "5 to 8 km"),
        ("The river ({{IPA|x}}) is {{x}}, as told {{x}}.", "The river is, as told."),
        ("{{x}}, the river, {{x}} , {{x}}, or {{c.|292}}", "the river, or 292"),
        ("<nowiki>[[강]]</nowiki>", "강"),
        ("물<sub>2</sub>과 <span style='x'>불</span>", "물2과 불"),
        ("<syntaxhighlight lang=c>int a;</syntaxhighlight>가", "가"),
        ("{{가|{{나|{{다}}}}}}라", "라"),
        ("== 하나 == \n글", "글"),
        ("x = 1 == y", "x = 1 == y"),
        ("", ""),
    ],
)
def test_markup(wikitext: str, text: str) -> None:
    assert "".join(read(wikitext)[0]) == text


@pytest.mark.parametrize("wikitext", ["{{가|" * 3000, "{{a|" * 3000 + "}}" * 3000, "[[a|" * 3000 + "]]" * 3000])
def test_markup_that_nobody_reads_is_said(wikitext: str) -> None:
    with pytest.raises(WikitextError):
        plain_text(wikitext, Tally())
