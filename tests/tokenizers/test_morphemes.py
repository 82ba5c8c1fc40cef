"""Morphemes in text: marked within words only, nothing lost, whatever the text holds."""

import sys
import time
import unicodedata

import pytest

from reforge.spec import UserError
from reforge.tokenizers import TOKENIZERS
from reforge.tokenizers.morphemes import JOINER, Morphemes, _spans

pytest.importorskip("mecab")


def mark(text: str, compose: bool = True) -> str:
    return Morphemes(compose).mark(text).replace(JOINER, "|")


def test_morphemes_meet_within_words() -> None:
    assert mark("학교에서 친구를 만났다.") == "학교|에서 친구|를 만났|다|."


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\n\n", "  학교에서\t갔다 \r\n", "학교\u3000에서\x85갔다\u2028", "a\x00b 학교에서 \x00", "\x00"),
        *(
            "e\u0301x\u0301 학교",
            "\u200b학교에서\u200b",
            "👨‍👩‍👧 가족이",
            "漢字와",
            "ㅋㅋㅋㅋㅎㅎ",
            "\ue000\U0010ffff",
            "\x1c\x1f",
        ),
        *("학교에서 " * 2000, "가나다라" * 2000),
    ],
)
def test_nothing_is_lost_and_white_space_stands_free(text: str) -> None:
    for compose in (True, False):
        marked = Morphemes(compose).mark(text)
        assert marked.replace(JOINER, "") == (unicodedata.normalize("NFC", text) if compose else text)
        assert not any(
            before.isspace() or after.isspace()
            for place, char in enumerate(marked)
            if char == JOINER
            for before, after in [(marked[place - 1], marked[place + 1])]
        )


def test_a_joiner_of_the_text_is_no_joiner() -> None:
    assert mark(f"a{JOINER}b").replace("|", "") == "a\ufffdb"


def test_decomposed_words_are_composed_or_stay_whole() -> None:
    decomposed = unicodedata.normalize("NFD", "학교에서 갔다")
    assert mark(decomposed) == mark("학교에서 갔다")
    assert mark(decomposed, compose=False) == decomposed


def test_words_behind_a_nul_are_cut_all_the_same() -> None:
    assert mark("a\0b 학교에서").endswith("학교|에서")


def test_a_long_line_takes_time_in_proportion() -> None:
    start = time.process_time()
    mark("ㅋ" * 100_000)
    assert time.process_time() - start < 5


def test_without_mecab_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mecab", None)
    _spans.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'reforge\[mecab\]'"):
        TOKENIZERS["bpe"](pretokenize="mecab").train(["학교에서"])
    _spans.cache_clear()


def test_characters_refuse_morphemes() -> None:
    (problem,) = TOKENIZERS["character"](pretokenize="mecab").problems()
    assert problem.path == ("pretokenize",)
