"""Cleaning: what it changes, what it drops, and that every change is counted."""

from pathlib import Path
from typing import Any

import pytest

from reforge.corpora import Document, Tally
from reforge.corpora.cleaning import Cleaning, NearDuplicates, clean, script_share
from reforge.corpora.kowiki import Kowiki
from reforge.spec import SpecError, load_source, validate

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "kowiki" / "title_body"


def cleaned(text: str, **options: Any) -> tuple[str | None, Tally]:
    """The cleaned text, and the tally of a reader that kept the document before."""
    tally = Tally()
    tally.keep(text)
    document = clean(Document("a: 1", text, key="k", group="g"), Cleaning(**options), tally)
    if document is not None:
        assert document[2:] == ("k", "g")
    return document and document.text, tally


def test_by_default_text_in_normal_form_stays_as_it_is() -> None:
    document = Document("a: 1", "  글은\t그대로이다. \n\n 빈 줄도.  ")
    tally = Tally()
    tally.keep(document.text)
    before = tally.as_dict()
    assert clean(document, Cleaning(), tally) is document
    assert tally.as_dict() == before


def test_hangul_is_composed_and_counted() -> None:
    text, tally = cleaned("\u1112\u1161\u11ab\u1100\u1173\u11af, cafe\u0301")
    assert text == "한글, café"
    assert tally.fixed == {"not in NFC": 1}
    assert (tally.documents, tally.characters) == (1, len("한글, café"))


@pytest.mark.parametrize(("form", "text"), [("nfc", "ＡＢＣ ﬁt ㎏"), ("nfkc", "ABC fit kg"), ("none", "ＡＢＣ ﬁt ㎏")])
def test_only_nfkc_makes_wide_letters_and_ligatures_ordinary(form: str, text: str) -> None:
    assert cleaned("ＡＢＣ ﬁt ㎏", normalize=form)[0] == text


def test_none_leaves_decomposed_hangul() -> None:
    assert cleaned("\u1112\u1161\u11ab", normalize="none")[0] == "\u1112\u1161\u11ab"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("가  나\t다\u3000라\u00a0마", "가 나 다 라 마"),
        ("one\r\n\r\n  two \n \n\u2028three", "one\ntwo\nthree"),
        ("one\ntwo three", "one\ntwo three"),
    ],
)
def test_white_space_collapses_within_lines_and_blank_lines_go(before: str, after: str) -> None:
    text, tally = cleaned(before, whitespace="collapse")
    assert text == after
    assert tally.characters == len(after)
    assert tally.fixed == ({} if before == after else {"white space collapsed": 1})


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (" \n ", {}, "empty"),
        ("네 글자", {"min_chars": 5}, "shorter than 5 characters"),
        ("a    b", {"min_chars": 5, "whitespace": "collapse"}, "shorter than 5 characters"),
        ("English prose", {"script": "hangul"}, "less than 50% of the letters are Hangul"),
        ("한국어 문장", {"script": "latin"}, "less than 50% of the letters are Latin"),
        ("123 456", {"script": "latin"}, "less than 50% of the letters are Latin"),
    ],
)
def test_what_is_dropped_is_taken_back_and_counted_by_reason(text: str, options: dict[str, Any], reason: str) -> None:
    kept, tally = cleaned(text, **options)
    assert kept is None
    assert tally.dropped == {reason: 1}
    assert (tally.documents, tally.characters) == (0, 0)


def test_length_counts_from_the_first_to_the_last_letter() -> None:
    assert cleaned("  다섯 글자  ", min_chars=5)[0] is not None
    assert cleaned("  다섯 글자  ", min_chars=6)[0] is None


@pytest.mark.parametrize(
    ("text", "hangul", "latin"),
    [
        ("한글과 abc, 123!", 0.5, 0.5),
        ("Ünïcödé", 0.0, 1.0),
        ("漢字 한글", 0.5, 0.0),
        ("...", 0.0, 0.0),
        ("가😀", 1.0, 0.0),
        ("ᄒ", 1.0, 0.0),
    ],
)
def test_shares_of_scripts_are_of_letters_only(text: str, hangul: float, latin: float) -> None:
    assert script_share(text, "hangul") == pytest.approx(hangul)
    assert script_share(text, "latin") == pytest.approx(latin)


def test_half_a_surrogate_pair_is_replaced_and_a_pair_is_joined() -> None:
    text, tally = cleaned("끊긴 \ud83d 그림, 온전한 \ud83d\ude00 그림")
    assert text == "끊긴 \ufffd 그림, 온전한 😀 그림"
    assert tally.fixed == {"half a surrogate pair replaced": 1}


def test_settings_that_would_be_ignored_are_said(tmp_path: Path) -> None:
    spec = tmp_path / "clean.yaml"
    spec.write_text("duplicates: exact\nnear: {threshold: 0.7}\nmin_script_share: 0.9\n")
    with pytest.raises(SpecError) as told:
        validate(Cleaning, load_source(spec))
    assert [problem.rule for problem in told.value.problems] == [
        "is for duplicates: near; duplicates is exact",
        "is for script: hangul or latin; script is any",
    ]
    spec.write_text("duplicates: near\nnear: {threshold: 0.7}\n")
    assert validate(Cleaning, load_source(spec)).near == NearDuplicates(threshold=0.7)


def test_real_articles_are_in_normal_form_already() -> None:
    if not REAL.exists():
        pytest.skip(f"no real data at {REAL}")
    tally = Tally()
    for number, document in enumerate(Kowiki(path=REAL).documents(tally)):
        kept = clean(document, Cleaning(whitespace="collapse", script="hangul", min_script_share=0.3), tally)
        assert kept is None or kept.text == document.text
        if number == 300:
            break
    assert tally.fixed["not in NFC"] == tally.fixed["white space collapsed"] == 0
    assert tally.documents > 290
