"""What a token is to a word and to a sentence, for every way of writing tokens."""

import pytest
from tokenizers import Tokenizer

from reforge.tokenizers import EOD, SPECIAL_TOKENS, TOKENIZERS, Vocabulary

TEXTS = ["학교에서 친구를 만났다. 책을 빌렸다!\n그는 (집에) 갔다... 'yes' 12", "漢字는 어렵다? Books and books."] * 4


def of(kind: str) -> tuple[Tokenizer, Vocabulary]:
    tokenizer = TOKENIZERS[kind](vocab_size=400).train(TEXTS, (*SPECIAL_TOKENS, EOD))
    return tokenizer, Vocabulary.of(tokenizer)


@pytest.mark.parametrize(
    ("kind", "starting", "continuing"),
    [
        ("wordpiece", ["학교에서", ".", "漢", "("], ["##다"]),
        ("bpe", ["▁학교에서", ".", "▁", "\n", "▁("], ["다", "집"]),
        ("unigram", ["▁", ".", "("], ["에", "s"]),
        ("byte_bpe", ["Ġ", ".", "Ċ", "Ġ("], ["a", "1", "ë", "í", "Ķ"]),
        ("character", [" ", "\n", ".", "("], ["학", "漢", "B", "1"]),
    ],
)
def test_tokens_start_words_or_go_on_with_them(kind: str, starting: list[str], continuing: list[str]) -> None:
    tokenizer, vocabulary = of(kind)
    for expected, tokens in ((False, starting), (True, continuing)):
        for token in tokens:
            place = tokenizer.token_to_id(token)
            assert place is not None, token
            assert vocabulary.continues_V[place] == expected, token


@pytest.mark.parametrize("kind", [kind for kind, part in TOKENIZERS.items() if part.is_trained])
def test_sentence_ends(kind: str) -> None:
    tokenizer, vocabulary = of(kind)
    for text, expected in ((".", True), ("!", True), ("?", True), ("(", False), ("s", False)):
        place = tokenizer.token_to_id(text)
        if place is not None:
            assert vocabulary.ends_sentence_V[place] == expected, text
    assert vocabulary.ends_sentence_V.sum() >= 3
    assert not vocabulary.ends_sentence_V[: vocabulary.num_special].any()
    assert not vocabulary.continues_V[: vocabulary.num_special].any()
    assert vocabulary.size == tokenizer.get_vocab_size() == len(vocabulary.continues_V)
