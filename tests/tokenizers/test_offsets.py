"""Where tokens stand in the text: the same ids as without, every visible character covered, in order."""

import random
import unicodedata
from functools import cache
from importlib.util import find_spec

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from reforge.tokenizers import TOKENIZERS, Encoder
from reforge.tokenizers.characters import places_in_text
from reforge.tokenizers.morphemes import JOINER
from reforge.tokenizers.offsets import OffsetEncoder, Pieces

TEXTS = [
    "학교에서 친구를 만났다. 친구와 함께 도서관에 갔고, 책을 두 권 빌렸다!\n저녁에는 집에서 밥을 먹었다.",
    "나는 학교에 가는 친구를 좋아한다. 漢字와 English words, café, 123도 (가끔) 있다?",
    "The library opens at 9:30. Don't be late, we'll wait... [MASK] is a word; #tags and ##more",
] * 4
NASTY = [
    *("", " ", "  학교 ", "漢字와 漢字", "\t漢", "학교에서\t갔다.\n\n그는  \n 갔다", "[MASK]도 a[SEP]b", "▁a b▁c ▁漢"),
    *(unicodedata.normalize("NFD", text) for text in ("학교에서 갔다, 漢字와 각", "café É x̂")),
    *("e\u0301 \u0301e \u0301", "\u1100\u1161 \u11a8", "\u200b학교\u200b에서 \u200b", "a\xa0b\u3000학교", "\x1c.\x1c"),
    *("👨‍👩‍👧‍👦 가족🇰🇷 👍🏽❤️", f"x{JOINER}y {JOINER} z", "a\x00b c", "İstanbul ß ﬁ ΑΣ", "１２３ ½ ①②", "\u0958\u0344"),
]
ALPHABET = [*" \n.#s학교에서\x1c\xa0漢▁½İ\x00👍Ġ", "\u1100\u1161", "\u11a8", "\u0301", "\u200d", "\ufe0f", JOINER]
MECAB = ["mecab"] if find_spec("mecab") else []
KINDS = [
    *((kind, "none") for kind in ("wordpiece", "bpe", "byte_bpe", "unigram", "character", "lowercase", "prefixed")),
    *((kind, "mecab") for kind in ("wordpiece", "bpe", "byte_bpe", "unigram") if MECAB),
]


@cache
def tokenizer(kind: str, pretokenize: str = "none") -> Tokenizer:
    if kind == "lowercase":
        return TOKENIZERS["wordpiece"](vocab_size=300, lowercase=True).train(TEXTS)
    if kind == "prefixed":
        made = Tokenizer.from_str(tokenizer("byte_bpe").to_str())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        return made
    size = {"unigram": 120}.get(kind, 400)
    return TOKENIZERS[kind](vocab_size=size, pretokenize=pretokenize).train(TEXTS)


def texts() -> list[str]:
    drawn = random.Random(0)
    return [*TEXTS[:3], *NASTY, *("".join(drawn.choices(ALPHABET, k=drawn.randint(1, 20))) for _ in range(60))]


def words(text: str, pieces: Pieces) -> list[str]:
    return [text[start:end] for start, end in zip(pieces.starts, pieces.ends, strict=True)]


def is_visible(char: str) -> bool:
    """Also U+FFFD is taken away by BERT's cleaning."""
    return char not in (JOINER, "\ufffd") and not char.isspace() and unicodedata.category(char)[0] != "C"


@pytest.mark.parametrize(("kind", "pretokenize"), KINDS)
def test_spans_are_ordered_and_cover_what_is_visible(kind: str, pretokenize: str) -> None:
    made, given = tokenizer(kind, pretokenize), texts()
    for text, pieces, ids in zip(given, OffsetEncoder(made).encode(given), Encoder(made).encode(given), strict=True):
        starts, ends = pieces.starts.tolist(), pieces.ends.tolist()
        assert pieces.ids.tolist() == ids.tolist(), text
        assert starts == sorted(starts)
        assert ends == sorted(ends)
        assert all(0 <= start <= end <= len(text) for start, end in zip(starts, ends, strict=True)), text
        covered = {place for start, end in zip(starts, ends, strict=True) for place in range(start, end)}
        assert not [place for place, char in enumerate(text) if is_visible(char) and place not in covered], text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_space_before_a_first_word_stands_nowhere(kind: str) -> None:
    [pieces] = OffsetEncoder(tokenizer(kind)).encode(["뷁 뷁"])
    found = words("뷁 뷁", pieces)
    assert found[:2] == ["", "뷁"]
    assert " " in found


def test_spans_take_in_what_combines_and_leave_out_white_space() -> None:
    text = unicodedata.normalize("NFD", "학교에서 갔다")
    for kind in ("wordpiece", "bpe"):
        [pieces] = OffsetEncoder(tokenizer(kind)).encode([text])
        found = words(text, pieces)
        assert "".join(found) == text.replace(" ", "")
        assert unicodedata.normalize("NFC", found[0])[0] == "학"


def test_bytes_of_a_character_share_its_span() -> None:
    [pieces] = OffsetEncoder(tokenizer("byte_bpe")).encode(["a뷁b"])
    assert words("a뷁b", pieces) == ["a", "뷁", "뷁", "뷁", "b"]


def test_an_unknown_word_keeps_its_span() -> None:
    [pieces] = OffsetEncoder(tokenizer("wordpiece")).encode(["학교 뷁쉙 학교"])
    assert "뷁쉙" in words("학교 뷁쉙 학교", pieces)


def test_accents_that_are_stripped_belong_to_their_letter() -> None:
    made = Tokenizer.from_str(tokenizer("lowercase").to_str())
    made.normalizer = normalizers.BertNormalizer()
    [pieces] = OffsetEncoder(made).encode(["cafe\u0301"])
    assert "".join(words("cafe\u0301", pieces)) == "cafe\u0301"


def test_places_of_a_copy_that_is_composed_and_marked() -> None:
    text = unicodedata.normalize("NFD", "각에")
    starts, ends = places_in_text(text, f"각{JOINER}에")
    assert starts.tolist() == [0, 3, 3, 5]
    assert ends.tolist() == [3, 3, 5, 5]


def test_other_chunks_give_the_same() -> None:
    encoder = OffsetEncoder(tokenizer("wordpiece"))
    [*_, last] = encoder.encode(["학교"] * 4099 + ["가 친구를"])
    [alone] = encoder.encode(["가 친구를"])
    assert [array.tolist() for array in last] == [array.tolist() for array in alone]
    assert encoder.encode([]) == []
